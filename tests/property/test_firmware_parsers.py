"""Any bytes: a result or a documented error; never another exception, on any of the parsers.

Half of the bytes are arbitrary, half are JSON that is nearly right, since arbitrary bytes never
get past the first bracket.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from imprint import canonical, errors, identity, outbox, vault
from imprint.clouds import aliyun, aliyun_registration

ROOT = "00" * 32
UNIT_ID = b"\x24\x0a\xc4\x00\x01\x0f"

UNIT = identity.build({
    "journey": "aliyun",
    "product_key": "pk",
    "device_name": "unit7",
    "registration": "regnwl",
    "product_secret": "secret",
})  # fmt: skip

TOPICS = [topic for topic, _qos in aliyun.subscriptions(UNIT)]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def json_of(likely: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[bytes]:
    """Objects with some of the likely names, each with the likely value or any other."""
    fields = {name: value | values for name, value in likely.items()}
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda fields: json.dumps(fields).encode()
    )


IDENTITY_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "journey": st.just("aliyun"),
    "product_key": st.just("pk"),
    "registration": st.sampled_from(["regnwl", "register", "none"]),
    "root_ca_sha256": st.just(ROOT),
    "wifi_ssid": st.text(max_size=40),
    "product_secret": st.just("secret"),
    "device_secret": st.just("secret"),
    "device_name": st.text(alphabet="abc.|-", max_size=40),
    "port": st.integers(),
    "secure_mode": st.sampled_from([2, -2]),
    "colour": values,
}


@given(st.binary(max_size=200) | json_of(IDENTITY_FIELDS))
@example(b'{"journey":"aliyun","wifi_ssid":"\\ud800"}')
@example(b"{" + b'"a":{' * 1500 + b"}" * 1501)
def test_identity(blob: bytes) -> None:
    """identity.parse gives an identity, or says that it is damaged or wrong."""
    try:
        unit = identity.parse(blob, lambda _name: ROOT, UNIT_ID)
    except errors.SetupError as error:
        assert error.code in (102, 103)
        return
    assert unit.journey == "aliyun" and 4 <= len(unit.device_name) <= 32


@given(
    st.sampled_from([b"/ext/regnwl", b"/ext/register", b"/other"]),
    st.binary(max_size=200)
    | json_of({
        "productKey": st.just("pk"),
        "deviceName": st.just("unit7"),
        "clientId": st.text(max_size=140),
        "deviceToken": st.text(max_size=140),
        "deviceSecret": st.text(max_size=140),
    }),
)  # fmt: skip
def test_registration_answer(topic: bytes, payload: bytes) -> None:
    """A record that logs in and survives the vault, None, or one of two errors."""
    try:
        record = aliyun_registration.answer(UNIT, topic, payload)
    except errors.SetupError as error:
        assert error.code in (406, 407)
        return
    if record is None:
        assert topic == b"/other"
        return
    assert not aliyun.needs_registration(UNIT, record)
    request = aliyun.login(UNIT, record)
    assert request.client_id.count(b"|") == 2 and request.client_id.isascii()
    kept = vault.Vault(Blobs({}))
    kept.store(record)
    assert kept.load() == record


@given(
    st.sampled_from([*TOPICS, b"", b"/sys", b"\xff"]) | st.binary(max_size=60),
    st.binary(max_size=200)
    | json_of({
        "id": st.integers().map(str),
        "code": st.integers(),
        "message": st.text(),
        "params": st.dictionaries(st.text(max_size=5), values, max_size=3),
    }),
)  # fmt: skip
def test_downlink(topic: bytes, payload: bytes) -> None:
    """A downlink is one of four things and never an exception; a set can be answered."""
    what = aliyun.downlink(UNIT, topic, payload)
    assert what[0] in ("reply", "set", "user", "other")
    if what[0] == "reply":
        assert aliyun.report_refused(what[2], what[3]) is None or what[2] != 200
    if what[0] == "set":
        answer = json.loads(aliyun.set_reply(UNIT, what[1])[1])
        assert answer["id"] == what[1] == json.loads(payload)["id"]


@given(values)
def test_canonical(value: object) -> None:
    """What is written is JSON and reads as the same value; NaN and infinity are refused."""
    try:
        text = canonical.dumps({"v": value})
    except ValueError:
        return
    assert canonical.loads(text, len(text)) == {"v": value} == json.loads(text)
    assert canonical.dumps(json.loads(text)) == text


@given(st.dictionaries(st.sampled_from(["cred_a", "cred_b"]), st.binary(max_size=120)))
def test_vault(content: dict[str, bytes]) -> None:
    """Slots of any bytes: absent, damaged, or (never by chance) a record; then it is usable."""
    kept = vault.Vault(Blobs(content))
    try:
        assert kept.load() is None and not content
    except errors.SetupError as error:
        assert error.code == 110 and content
    kept.store({"a": "b"})
    assert kept.load() == {"a": "b"}


@given(
    st.dictionaries(
        st.text(max_size=9) | st.integers(0, 2**32 - 1).map("{:08x}".format),
        st.binary(max_size=40),
        max_size=6,
    )
)
def test_outbox(content: dict[str, bytes]) -> None:
    """A folder of anything: whole messages or none, and what is put last comes out last."""
    box = outbox.Outbox(Folder(content), 4)
    box.put(b"last")
    last = b""
    while (held := box.peek()) is not None:
        last = held[1]
        box.done(held[0])
    assert last == b"last" and len(box) == 0


class Blobs(dict[str, bytes]):
    """The vault's store."""

    def set(self, key: str, value: bytes) -> None:
        self[key] = value

    def commit(self) -> None:
        pass


class Folder:
    """The outbox's store."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.names = lambda: list(content)
        self.read = content.get
        self.write = content.__setitem__
        self.remove = content.pop
