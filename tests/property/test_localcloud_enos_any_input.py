"""Whatever a device or an application sends to the local EnOS: an answer or a refusal that has a
code, and nothing else."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from imprint_tools.localcloud import packets
from imprint_tools.localcloud.enos import login as enos_login
from imprint_tools.localcloud.enos import messages
from imprint_tools.localcloud.enos import reports as enos_reports
from imprint_tools.localcloud.enos import topics as enos_topics
from imprint_tools.localcloud.enos.api_devices import DeviceActions
from imprint_tools.localcloud.enos.calls import FAILURES, Call
from imprint_tools.localcloud.enos.certificates import CertificateService
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosProduct
from imprint_tools.localcloud.enos.codes import MEANINGS
from imprint_tools.localcloud.enos.config import ConnectLimits, EnosConfig, EnosLimits, Inferred
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.gateway import Gateways, Session
from imprint_tools.localcloud.enos.hub import Hub
from imprint_tools.localcloud.enos.limits import ConnectCounter
from imprint_tools.localcloud.enos.records import GATEWAY, Device
from imprint_tools.localcloud.enos.registry import ORGANISATION, EnosRegistry
from imprint_tools.localcloud.enos.tokens import STATUSES, Tokens
from imprint_tools.localcloud.events import EventLog
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

sys.path.append(str(Path(__file__).parents[1] / "host"))
from enosmqtt import EnosClient

GW, SUB = ("gw", "edge"), ("sub", "meter")
TEXT = st.text(st.one_of(st.sampled_from("|,=&/+#{}.%"), st.characters()))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
NAMES = st.sampled_from(["gw", "edge", "sub", "meter", "nobody", ""])
# Objects that are nearly right: the fields that are looked for, with what belongs there or not.
FIELDS = {
    "productKey": NAMES, "deviceKey": NAMES, "clientId": TEXT, "sign": TEXT, "csr": TEXT,
    "timestamp": st.integers() | TEXT, "signMethod": st.sampled_from(["sha256", "sha1", "crc"]),
    "signmethod": st.just("sha256"), "secureMode": st.sampled_from(["2", "3", 3, None]),
    "timezone": st.sampled_from(["+08:00", "x"]), "deviceName": st.just({"defaultValue": "m"}),
    "measurepoints": st.dictionaries(TEXT, JSON), "time": st.integers(), "events": JSON,
    "attributes": st.lists(TEXT) | st.dictionaries(TEXT, JSON), "tags": st.lists(TEXT),
    "tagKey": TEXT, "tagValue": TEXT, "assetId": TEXT, "validDay": st.integers(),
    "certSn": TEXT, "reason": st.integers(), "deviceList": st.lists(JSON),
}  # fmt: skip
ENTRY = st.fixed_dictionaries({}, optional={k: v | JSON for k, v in FIELDS.items()})
PARAMS = (
    ENTRY
    | st.lists(ENTRY, max_size=4)
    | JSON
    | st.builds(
        lambda entry, subs: {**entry, "subDevices": subs, "gateway": entry},
        ENTRY,
        st.lists(ENTRY, max_size=4),
    )
)


class Forgetful(EnosRegistry):
    """A data base that writes nothing down, so that thousands of examples are soon through."""

    def save(self) -> None:
        pass


def world(folder: Path) -> tuple[EnosRegistry, Hub, EnosConfig]:
    """A gateway with a sub-device, and the rules."""
    config = EnosConfig(inferred=Inferred(register_binds=True))
    registry = Forgetful(folder / "devices.json")
    registry.create_product("gw", kind=GATEWAY).certificate = True
    registry.create_device(*GW)
    registry.create_product("sub")
    registry.create_device(*SUB)
    registry.bind(GW, SUB)
    log = EventLog(folder / "events.jsonl")
    return registry, Hub(registry, config, log, EnosFaults(), lambda: 0.0, folder), config


FOLDER = tempfile.TemporaryDirectory()
REGISTRY, HUB, CONFIG = world(Path(FOLDER.name))
GATEWAYS = Gateways(REGISTRY, CONFIG, EnosFaults(), lambda reason: MEANINGS[reason].code)


def answered(run: Callable[[], object], reasons: Any) -> None:
    """An answer, a format error, or a refusal with a reason that has a code."""
    try:
        run()
    except Refusal as refusal:
        assert refusal.reason in reasons
    except messages.FormatError:
        pass


@given(
    TEXT
    | st.builds(
        lambda own, mode, method, time: (
            f"{own}|securemode={mode},signmethod={method},timestamp={time}|"
        ),
        TEXT,
        st.sampled_from(["2", "3", "4", ""]),
        st.sampled_from(["sha256", "hmacsha1", "MD5", ""]) | TEXT,
        TEXT,
    ),
    TEXT,
    st.binary(),
)
@example("a|securemode=2,signmethod=sha256,timestamp=1|", "\ud800&x", b"")
def test_any_login_is_read_or_refused(client_id: str, username: str, password: bytes) -> None:
    """With a reason that has a code."""

    def run() -> None:
        login = enos_login.parse(client_id, username)
        assert login.client_id and "|" not in login.client_id
        assert not login.signed_by(Secret("secret"), Secret(password))

    answered(run, MEANINGS)


@given(st.dictionaries(TEXT, TEXT), TEXT)
def test_a_signature_is_that_of_its_secret(fields: dict[str, str], secret: str) -> None:
    """In either case of its digits, and of no other secret."""
    key = Secret(secret.encode("utf-8", "surrogatepass"))
    sign = enos_login.signature("sha256", fields, key)
    for text in (sign, sign.lower()):
        assert enos_login.signed_by("sha256", fields, key, Secret(text))
    other = Secret(key.reveal() + b"x")
    assert not enos_login.signed_by("sha256", fields, other, Secret(sign))


@given(TEXT | TEXT.map(lambda tail: f"/sys/pk/dk/{tail}"))
def test_a_topic_that_is_read_can_be_written(text: str) -> None:
    """Exactly as it was; and no filter that is read can match another device's topic."""
    topic = enos_topics.parse(text)
    if topic is not None:
        make = enos_topics.session if topic.session else enos_topics.system
        assert make(topic.name, topic.tail) == text
        if packets.valid_filter(text):
            assert not packets.matches(text, make(("other", "device"), topic.tail))


@settings(max_examples=50)
@given(
    st.binary() | PARAMS.map(json.dumps).map(str.encode)
    | PARAMS.map(lambda params: json.dumps({"id": "1", "params": params}).encode()),
    st.sampled_from(
        [
            "thing/measurepoint/post", "thing/measurepoint/resume", "thing/event/e/post",
            "thing/attribute/update", "thing/attribute/query", "thing/attribute/delete",
            "thing/tag/update", "thing/tag/query", "thing/tag/delete",
        ]
    ),
)  # fmt: skip
def test_any_report_is_used_or_refused(payload: bytes, topic: str) -> None:
    """Not an envelope, not its params, or used."""
    use = enos_reports.use(topic)
    assert use is not None
    device = Device("d", Secret("s"), "a")
    try:
        envelope = messages.parse_request(payload)
        use(device, envelope.params, 1)
    except (ValueError, messages.FormatError):
        assert device.measurepoints == {} and device.tags == {} and device.events == []


@settings(max_examples=50)
@given(
    st.sampled_from([*GATEWAYS.system.values(), *GATEWAYS.session.values()]), PARAMS
)  # fmt: skip
def test_any_request_of_a_gateway_is_answered(operation: Any, params: Any) -> None:
    """With a code of the table; who was bound stays bound but by a deletion."""
    session = Session(GW, REGISTRY.device(*GW), lambda *_args, **_details: None)
    answered(lambda: operation(session, params), MEANINGS)
    REGISTRY.bind(GW, SUB)
    assert set(session.online) <= {SUB}


@settings(max_examples=50)
@given(st.binary() | PARAMS.map(json.dumps).map(str.encode), st.booleans())
def test_any_batch_of_posts_is_whole_or_nothing(payload: bytes, late: bool) -> None:
    """And of nobody who is not of this gateway."""
    session = Session(GW, REGISTRY.device(*GW), lambda *_args, **_details: None)

    def run() -> None:
        try:
            envelope = messages.parse_request(payload)
        except ValueError:
            return
        GATEWAYS.post_batch(session, envelope, 1, late=late)

    answered(run, MEANINGS)


@settings(max_examples=50)
@given(
    st.sampled_from(sorted(DeviceActions(REGISTRY, HUB, CONFIG, EnosFaults()).actions())),
    st.dictionaries(st.sampled_from(["productKey", "deviceKey", "assetId"]), NAMES | TEXT),
    PARAMS.filter(lambda params: isinstance(params, dict)),
)
def test_any_api_call_is_answered(
    key: tuple[str, str], query: dict[str, str], body: dict[str, Any]
) -> None:
    """With a code of the table."""
    actions = DeviceActions(REGISTRY, HUB, CONFIG, EnosFaults()).actions()
    call = Call(ORGANISATION, "v2.1", query, body)
    answered(lambda: actions[key].run(call), FAILURES)
    REGISTRY.create_device(*SUB)
    REGISTRY.create_device(*GW)
    REGISTRY.bind(GW, SUB)


@settings(max_examples=50)
@given(st.sampled_from(["apply", "renew", "revoke"]), ENTRY)
def test_any_certificate_call_is_answered(action: str, body: dict[str, Any]) -> None:
    """With a code of the table."""
    service = CertificateService(REGISTRY, Path(FOLDER.name), CONFIG.inferred)
    answered(lambda: getattr(service, action)(GW, body), FAILURES)


@given(
    st.sampled_from(["get", "refresh"]),
    st.fixed_dictionaries(
        {},
        optional={
            name: TEXT | JSON for name in ("appKey", "timestamp", "encryption", "accessToken")
        },
    ),
)
def test_any_request_for_a_token_is_answered(action: str, document: dict[str, Any]) -> None:
    """With a status of the table."""
    tokens = Tokens(REGISTRY, CONFIG)
    answered(lambda: getattr(tokens, action)(document, 0.0, 0.0), STATUSES)


@given(
    st.dictionaries(
        st.sampled_from(["apim-accesstoken", "apim-timestamp", "apim-signature"]), TEXT
    ),
    st.lists(st.tuples(TEXT, TEXT)),
    st.binary(),
)
def test_any_call_is_signed_or_refused(
    headers: dict[str, str], query: list[tuple[str, str]], body: bytes
) -> None:
    """With a code of the table."""
    tokens = Tokens(REGISTRY, CONFIG)
    answered(lambda: tokens.check(headers, query, body, 0.0, 0.0), FAILURES)


TAILS = [
    *GATEWAYS.system, *GATEWAYS.session, "thing/measurepoint/post", "thing/tag/update",
    "thing/measurepoint/post/batch", "thing/event/e/post", "thing/activate/info_reply",
    "thing/service/measurepoint/set_reply", "combine/disable_reply", "thing/nothing",
]  # fmt: skip
SPOKEN = st.tuples(
    st.sampled_from(["/sys", "/ext/session"]),
    st.sampled_from([GW, SUB, ("sub", "nobody"), ("nobody", "x")]),
    st.sampled_from(TAILS),
    st.binary()
    | st.builds(
        lambda params, code: json.dumps({"id": "1", "params": params, "code": code}).encode(),
        PARAMS,
        st.sampled_from([200, "200", None]),
    ),
)


@settings(max_examples=20)
@given(st.lists(SPOKEN, max_size=20))
def test_a_connection_that_says_anything_meets_no_bug(said: list[Any]) -> None:
    """A gateway's, over a socket; it is still heard at the end, and the hub had no bug."""
    products = (
        EnosProduct("gw", devices=("edge",), kind=GATEWAY),
        EnosProduct("sub", devices=("meter",)),
    )
    config = EnosConfig(products=products, limits=EnosLimits(connects=None))
    with tempfile.TemporaryDirectory() as folder, EnosCloud(Path(folder), config) as cloud:
        cloud.bind(GW, SUB)
        with EnosClient(cloud, GW) as client:
            assert client.login(cloud.device_secret(*GW)) == 0
            for prefix, (pk, dk), tail, payload in said:
                client.publish(f"{prefix}/{pk}/{dk}/{tail}", payload)
            assert client.code("thing/measurepoint/post", {"measurepoints": {"t": 1}}) == 200


@given(st.lists(st.floats(0, 400)))
def test_no_more_connects_than_the_limit(pauses: list[float]) -> None:
    """In whatever rhythm: never more than four in two minutes, never two within a second."""
    limits = ConnectLimits()
    counter = ConnectCounter(limits)
    now, granted = 0.0, []
    for pause in pauses:
        now += pause
        if counter.allow(GW, now):
            granted.append(now)
    for place, moment in enumerate(granted):
        recent = [one for one in granted[: place + 1] if one > moment - limits.window_s]
        assert len(recent) <= limits.most
        assert place == 0 or moment - granted[place - 1] >= limits.apart_s
