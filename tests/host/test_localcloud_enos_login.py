"""EnOS's signatures and grammars, against what the vendor's own SDKs and documents print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from imprint_tools.localcloud.enos import login as enos_login
from imprint_tools.localcloud.enos import messages as enos_messages
from imprint_tools.localcloud.enos import tokens as enos_tokens
from imprint_tools.localcloud.enos import topics as enos_topics
from imprint_tools.localcloud.enos.login import Login
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "enos.json").read_text())


def cases(name: str) -> Any:
    """Every vector of that name, numbered as in the file."""
    return pytest.mark.parametrize("vector", VECTORS[name], ids=str)


def either_case(sign: str) -> list[Secret]:
    return [Secret(sign.upper()), Secret(sign.lower())]


@cases("login")
def test_a_login_is_signed(vector: dict[str, str]) -> None:
    """By every method, and checked in either case of digits."""
    login = Login(
        vector["product_key"], vector["device_key"], vector["client_id"], "2", vector["method"],
        vector["timestamp"],
    )  # fmt: skip
    secret = Secret(vector["secret"])
    for sign in either_case(vector["sign"]):
        assert login.signed_by(secret, sign)
    assert not login.signed_by(Secret("other"), Secret(vector["sign"]))
    assert not login.signed_by(secret, Secret(vector["sign"][:-1]))


@cases("connect")
def test_a_whole_connect_of_the_python_sdk(vector: dict[str, str]) -> None:
    """Timestamps with a decimal point and all; message integration is not offered here."""
    if "securemode=4" in vector["client_id"]:
        with pytest.raises(Refusal, match="secure-mode-unknown"):
            enos_login.parse(vector["client_id"], vector["username"])
        return
    login = enos_login.parse(vector["client_id"], vector["username"])
    assert (login.product_key, login.device_key) == ("KV315idW", "tPbZGCdmaE")
    assert login.timestamp == "1548753362502.0"
    assert login.signed_by(Secret(vector["secret"]), Secret(vector["password"]))


@cases("subdevice")
def test_a_sub_device_is_signed_for(vector: dict[str, str]) -> None:
    """The same rule, over its own names and its gateway's clientId and timestamp."""
    shared = {
        "clientId": vector["client_id"], "timestamp": vector["timestamp"],
        "signMethod": vector["method"],
    }  # fmt: skip
    names = (vector["product_key"], vector["device_key"])
    for sign in either_case(vector["sign"]):
        text = sign.reveal().decode()
        assert enos_login.subdevice_signed_by(shared, *names, Secret(vector["secret"]), text)
    assert not enos_login.subdevice_signed_by(shared, *names, Secret("x"), vector["sign"])


@cases("signature")
def test_an_api_call_is_signed(vector: dict[str, Any]) -> None:
    """The first is the document's own example."""
    found = enos_tokens.signature(
        vector["token"],
        list(reversed(vector["query"].items())),
        vector["body"].encode(),
        str(vector["timestamp"]),
        Secret(vector["secret"]),
    )
    assert found == vector["signature"]


@pytest.mark.parametrize("name", ["post", "register"])
def test_what_the_python_sdk_sends_is_read(name: str) -> None:
    """As it stands."""
    envelope = enos_messages.parse_request(json.dumps(VECTORS[name]).encode())
    assert envelope.params == VECTORS[name]["params"]
    if name == "post":
        found = enos_messages.measurepoints(envelope.params, 0)
        assert found == {"temp": {"value": 1.02, "time": 1548753362502}}
    else:
        (entry,) = enos_messages.objects(envelope.params, 1)
        assert enos_messages.profile(entry)["timezone"] == "+08:00"


def test_the_reply_to_an_activation_is_read() -> None:
    """As the Python SDK sends it."""
    payload = json.dumps(VECTORS["activate_reply"]).encode()
    assert enos_messages.parse_reply(payload) == ("1", 200, None)


@pytest.mark.parametrize(
    ("text", "session", "tail"),
    [
        ("/sys/pk/dk/thing/measurepoint/post", False, "thing/measurepoint/post"),
        ("/ext/session/pk/dk/combine/login", True, "combine/login"),
        ("/sys/pk/dk/#", False, "#"), ("/sys/pk/dk/+/x", False, "+/x"),
    ],
)  # fmt: skip
def test_a_topic_is_somebodys(text: str, session: bool, tail: str) -> None:
    """And can be put together again."""
    topic = enos_topics.parse(text)
    assert topic is not None
    assert (topic.session, topic.name, topic.tail) == (session, ("pk", "dk"), tail)
    make = enos_topics.session if session else enos_topics.system
    assert make(topic.name, topic.tail) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "/sys", "/sys/", "/sys/pk/dk", "/sys/pk/dk/", "/sys//dk/x", "/sys/pk//x",
        "/sys/+/dk/x", "/sys/pk/+/x", "/sys/#/x/y", "sys/pk/dk/x", "/ext/pk/dk/x", "#",
        "/ext/session/pk/dk",
    ],
)  # fmt: skip
def test_other_topics_are_nobodys(text: str) -> None:
    """A wildcard in the place of a name, too."""
    assert enos_topics.parse(text) is None
