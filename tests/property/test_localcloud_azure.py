"""Whatever a peer sends to the local Azure: a result or a refusal, nothing else."""

from __future__ import annotations

import datetime
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from imprint_tools.localcloud.azure import certificates, names, sas
from imprint_tools.localcloud.azure import enrolment as enrolments
from imprint_tools.localcloud.azure import twin as azure_twin
from imprint_tools.localcloud.azure.error import ServiceError
from imprint_tools.localcloud.refusal import Refusal
from imprint_tools.secret import Secret

# Characters that mean something to the grammars, among all others.
TEXT = st.text(
    st.one_of(st.sampled_from("=&;/?%$#+.- "), st.sampled_from("aA0f"), st.characters())
)
PAIRS = st.lists(st.tuples(st.sampled_from(["sr", "sig", "se", "skn", "x"]), TEXT), max_size=5)
TOKEN = st.one_of(
    TEXT,
    PAIRS.map(lambda found: "SharedAccessSignature " + "&".join(f"{k}={v}" for k, v in found)),
)
BEGINS = st.sampled_from([
    "$dps/registrations/PUT/iotdps-register/?", "$iothub/twin/GET/?$rid=",
    "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=",
    "$iothub/twin/PATCH/properties/reported/?$rid=", "$iothub/methods/res/",
    "devices/unit-1/messages/events/", "",
])  # fmt: skip
TOPIC = st.builds(lambda begin, rest: begin + rest, BEGINS, TEXT)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
UNIT = names.HubUser("hub", "unit-1", None, "2021-04-12")
KEY = Secret("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")


@given(TOKEN, TEXT)
def test_any_token_is_read_or_refused_and_none_is_good_by_chance(text: str, resource: str) -> None:
    """Nobody guesses a signature."""
    try:
        token = sas.parse(text)
        sas.check(token, resource, [KEY], 0, 0)
    except Refusal:
        return
    raise AssertionError("a token without a key")


@given(TEXT.map(lambda text: text.encode("utf-8", "replace").decode()), st.integers(0, 10**11))
def test_a_token_that_is_made_is_good(resource: str, expiry: int) -> None:
    """For whatever resource, one that ends with a slash apart."""
    token = sas.parse(sas.make(resource, KEY, expiry).reveal().decode())
    if resource.rstrip("/") == resource:
        sas.check(token, resource, [KEY], expiry - 1, 0)


@given(st.one_of(TEXT, TEXT.map(lambda rest: "a/b/" + rest), TEXT.map(lambda r: f"a/b/?{r}")))
def test_any_user_name_is_read_or_refused(text: str) -> None:
    """A hub's and the provisioning service's; what is read is well formed."""
    try:
        user = names.parse_hub_username(text)
        assert names.valid_device_id(user.device_id) and user.host and user.api_version
    except Refusal:
        pass
    try:
        registration = names.parse_dps_username(text.replace("b", "registrations", 1))
        assert names.valid_registration_id(registration.registration_id)
    except Refusal:
        pass


@given(TOPIC)
def test_any_topic_is_read_or_refused(topic: str) -> None:
    """And a rid comes back as it was."""
    try:
        request = names.parse_dps_topic(topic)
        answer = names.dps_answer_topic(200, request.rid, None)
        assert names.parse_bag(answer.partition("?")[2])["$rid"] == request.rid
    except (Refusal, UnicodeEncodeError):
        pass
    try:
        action = names.parse_hub_topic(topic, UNIT)
        if isinstance(action, names.TwinGet):
            answer = names.twin_answer_topic(200, action.rid, 3)
            assert names.parse_bag(answer.partition("?")[2])["$rid"] == action.rid
    except (Refusal, UnicodeEncodeError):
        pass
    assert names.may_subscribe(topic, UNIT) in (True, False)


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_a_property_bag_comes_back(bag: dict[str, str]) -> None:
    """Whatever its keys and values."""
    try:
        assert names.parse_bag(names.write_bag(bag)) == bag
    except UnicodeEncodeError:
        pass  # a lone surrogate cannot come over MQTT


@given(
    st.one_of(
        TEXT,
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["HostName", "DeviceId", "SharedAccessKey", "GatewayHostName", "x509"]
                ),
                TEXT,
            )
        ).map(lambda pairs: ";".join(f"{k}={v}" for k, v in pairs)),
    )
)
def test_any_connection_string_is_read_or_refused(text: str) -> None:
    """What is read has a host."""
    try:
        assert names.parse_connection_string(text)["HostName"]
    except Refusal:
        pass


@given(JSON, JSON, st.sampled_from(["x509", "symmetricKey", "tpm"]), st.booleans())
def test_any_enrolment_is_taken_or_refused(body: Any, twin: Any, kind: str, group: bool) -> None:
    """And what is taken can be shown, kept and put again."""
    document = {
        **(body if isinstance(body, dict) else {"deviceId": body}),
        "initialTwin": twin,
        "attestation": {"type": kind, kind: body},
    }
    try:
        taken = enrolments.read(document, "unit-1", None, group=group)
    except ServiceError as error:
        assert error.status == 400
        return
    shown = json.loads(json.dumps(taken.shown(with_certificate=True)))
    again = enrolments.Enrolment.restored(json.loads(json.dumps(taken.stored())))
    assert again == taken
    assert enrolments.read(shown, "unit-1", taken, group=group).keys == taken.keys


@given(JSON, JSON)
def test_any_twin_patch_is_merged_or_refused(old: Any, patch: Any) -> None:
    """A second time changes nothing."""
    if not isinstance(patch, dict):
        return
    try:
        first = azure_twin.merged(old if isinstance(old, dict) else {}, patch, 2000)
    except Refusal:
        return
    assert azure_twin.merged(first, patch, 2000) == first


@given(st.one_of(TEXT, JSON, st.binary().map(lambda data: data.hex())))
def test_any_certificate_is_read_or_refused(text: Any) -> None:
    """And no chain is no authority's."""
    try:
        certificates.load(text)
    except Refusal:
        pass
    now = datetime.datetime.now(datetime.UTC)
    assert certificates.nearest_authority([], {"a": []}, now) is None
