"""The EnOS journey: a modem does DTLS, the board speaks CoAP; first power-on to telemetry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from enos_bench import DEVICE, EnosBench
from imprint_tools.localcloud.enos.cloud import EnosConfig
from imprint_tools.monitor import Event
from imprint_tools.virtual.modem.cellular import Cell, Coverage, Sim
from imprint_tools.virtual.modem.quirks import Quirks
from journey_bench import flash_content

MakeBench = Callable[..., EnosBench]

PIN = "4711"

APPLICATION = b"""
state = {"lamp": 0}
def read():
    return state
def apply(params):
    if params["lamp"] not in (0, 1):
        raise ValueError
    state["lamp"] = params["lamp"]
def method(name, params):
    return {"dance": lambda steps: {"danced": steps}}[name](**params)
"""

TELLING = b"""
state = {"n": 0, "lamp": 0}
told = 0
def read():
    state["n"] += 1
    return state
def apply(params):
    state["lamp"] = params["lamp"]
def event():
    global told
    if told < state["n"]:
        told += 1
        return "read", {"n": told, "lamp": state["lamp"]}
def attributes():
    return {"firmware": "1.2"}
"""


def sampled(cases: Iterable[str], count: int) -> list[Any]:
    """The first `count` of the cases, and the others for the whole sweep of `make test-all`."""
    return [
        case if number < count else pytest.param(case, marks=pytest.mark.slow)
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize("family", ["nrf91", "bg95", "gm02s"])
def test_the_second_power_on_does_not_activate(make_enos_bench: MakeBench, family: str) -> None:
    """Once its secret is held, the unit makes one handshake, and writes nothing into the modem."""
    bench = make_enos_bench(family=family)
    bench.board.power_on()
    bench.online()
    kept = bench.entries()
    said = len(bench.modem.commands)
    bench.power_cycle()
    bench.wait("state", s="CONNECT")
    bench.online()
    assert bench.device()["activations"] == 1
    assert bench.entries() == kept
    again = bench.modem.commands[said:]
    writes = ("AT%CMNG=0", "AT%CMNG=3", "AT+QFUPL", "AT+QFDEL", "AT+SQNSPCFG=", "AT+CFUN=")
    assert again and not [line for line in again if line.startswith(writes)]


def test_the_device_key_may_be_the_imei(make_enos_bench: MakeBench) -> None:
    """One identity serves a whole product: what differs is the modem's IMEI."""
    bench = make_enos_bench(device_key_source="imei", device_key=None)
    bench.cloud.create_device(bench.product_key, bench.modem.imei)
    bench.board.power_on()
    bench.online()
    assert bench.device(bench.modem.imei)["online"]


def test_another_modem_than_the_burned_one_is_refused(make_enos_bench: MakeBench) -> None:
    """An identity that names another IMEI than its modem's is a person's mistake: 104."""
    bench = make_enos_bench(device_key_source="imei", device_key="352656100367872")
    bench.board.power_on()
    bench.halted_with(104)
    assert not bench.events("handshake-refused")


def test_a_command_is_fetched_obeyed_and_answered(make_enos_bench: MakeBench) -> None:
    """What the cloud kept for the unit is named in a response; it fetches, obeys, replies."""
    bench = make_enos_bench(flash_content({"application.py": APPLICATION}))
    bench.burn(bench.static())
    bench.board.power_on()
    bench.online()
    for value, code in ((1, 200), (7, 1102)):
        number = bench.cloud.set_measurepoints(bench.product_key, DEVICE, {"lamp": value})
        answer = bench.cloud.event_log.wait("command-reply", id=number, timeout_s=10)
        assert answer["code"] == code
    bench.wait("set", code=1102)
    for name, params, code, data in (
        ("dance", {"steps": 3}, 200, {"danced": 3}),
        ("sing", {}, 1101, {}),
        ("dance", {}, 1200, {}),
    ):
        number = bench.cloud.invoke(bench.product_key, DEVICE, name, params)
        answer = bench.cloud.event_log.wait("command-reply", id=number, timeout_s=10)
        assert (answer["code"], answer["data"]) == (code, data)
    bench.reported()
    assert bench.device()["measurepoints"]["lamp"]["value"] == 1
    assert not bench.device()["commands"]


def test_a_command_may_come_with_the_response(make_enos_bench: MakeBench) -> None:
    """A command that comes whole in option 2102 needs no fetching; one that nobody handles is
    answered so, and malformed ones too."""
    bench = make_enos_bench(config=EnosConfig(command_in_option=True))
    bench.burn(bench.static())
    bench.board.power_on()
    bench.online()
    number = bench.cloud.invoke(bench.product_key, DEVICE, "dance", {})
    answer = bench.cloud.event_log.wait("command-reply", id=number, timeout_s=10)
    assert answer["code"] == 1101
    bench.reported()


@pytest.mark.parametrize("whole", [False, True])
def test_events_and_attributes_are_told(make_enos_bench: MakeBench, whole: bool) -> None:
    """Attributes once a login, an event with the report after it happened, in a message each;
    a command that one of their responses names, or has `whole`, is not lost."""
    config = EnosConfig(command_in_option=whole)
    bench = make_enos_bench(flash_content({"application.py": TELLING}), config=config)
    number = bench.cloud.set_measurepoints(bench.product_key, DEVICE, {"lamp": 1})
    bench.board.power_on()
    bench.online()
    assert bench.device()["attributes"] == {"firmware": "1.2"}
    bench.cloud.event_log.wait("command-reply", id=number, code=200, timeout_s=10)
    number = bench.cloud.set_measurepoints(bench.product_key, DEVICE, {"lamp": 2})
    bench.cloud.event_log.wait("command-reply", id=number, code=200, timeout_s=10)
    bench.reported()
    bench.board.power_off()
    events, shown = bench.device()["events"], bench.device()["measurepoints"]
    assert {e["id"] for e in events} == {"read"}
    told = [e["fields"]["n"] for e in events]
    assert told == list(range(told[0], told[-1] + 1))
    assert shown["n"]["value"] in (told[-1], told[-1] - 1)  # its report follows
    assert [e["fields"]["lamp"] for e in events] == sorted(e["fields"]["lamp"] for e in events)
    topics = [report["topic"] for report in bench.events("report")]
    assert topics[:3] == ["thing/" + tail for tail in (
        "attribute/update", "event/read/post", "measurepoint/post",
    )]  # fmt: skip
    assert len({report["id"] for report in bench.events("report")}) == len(topics)
    assert topics.count("thing/attribute/update") == 1


def test_events_outlive_an_outage(make_enos_bench: MakeBench) -> None:
    """What happens while there is no session is told, each event, when there is one again; and an
    event that the cloud cannot take now is told again, with its report."""
    bench = make_enos_bench(flash_content({"application.py": TELLING}))
    bench.burn(bench.static())
    bench.board.power_on()
    bench.online()
    bench.cloud.stop()
    bench.modem.reboot()
    bench.wait("wait")
    bench.error(229)
    bench.wait("wait")
    bench.cloud.start()
    bench.wait("online")
    bench.wait("reported", kept=0)
    bench.cloud.faults.server_error = 1
    bench.error(602)
    bench.reported()
    bench.board.power_off()
    shown = bench.device()
    told = {e["fields"]["n"] for e in shown["events"]}
    assert told >= set(range(1, shown["measurepoints"]["n"]["value"] + 1))


def test_a_wrong_key_is_retried_and_costs_nothing(make_enos_bench: MakeBench) -> None:
    """With a wrong secret the session is refused, again and again; identity and reports stay."""
    bench = make_enos_bench()
    bench.burn(bench.make_identity(product_secret="wrong"))  # noqa: S106  it is none
    burned = bench.entries()
    bench.board.power_on()
    bench.error(229)
    bench.wait("wait")
    bench.error(229)
    assert burned.items() <= bench.entries().items()
    assert bench.device()["activations"] == 0


def test_an_unknown_device_is_refused(make_enos_bench: MakeBench) -> None:
    """A device key that the product does not have gets no session."""
    bench = make_enos_bench(device_key="nobody")
    bench.board.power_on()
    bench.error(229)


def test_a_product_without_activation_says_so(make_enos_bench: MakeBench) -> None:
    """A product that has the switch off answers the activation with 4.03: 410, for a person."""
    bench = make_enos_bench()
    bench.cloud.set_dynamic_activation(bench.product_key, False)
    bench.board.power_on()
    bench.halted_with(410)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("server_error", 411), ("truncated_json", 412), ("no_suite", 229), ("other_device", 413)],
)
def test_a_bad_answer_to_the_activation(make_enos_bench: MakeBench, fault: str, code: int) -> None:
    """5.00, JSON that is cut off, a server with no suite of ours: an error, and asked again.
    Another device's secret is for a person. What is burned stays, and nothing else is kept."""
    bench = make_enos_bench(family="bg95")
    burned = bench.entries()
    setattr(bench.cloud.faults, fault, 1)
    bench.board.power_on()
    if fault == "other_device":
        bench.halted_with(code)
        assert "cred_a" not in bench.entries()
    else:
        bench.error(code)
        bench.wait("registered")
        bench.online()
    assert burned.items() <= bench.entries().items()


@pytest.mark.parametrize(
    ("fault", "code"), [("server_error", 602), ("truncated_json", 604), ("other_device", 604)]
)
def test_a_bad_answer_to_a_report(make_enos_bench: MakeBench, fault: str, code: int) -> None:
    """5.00, a reply that is cut off, or another message's: an error, and that report is sent
    again; of those that follow none is missing."""
    bench = make_enos_bench(family="bg95")
    bench.burn(bench.static())
    bench.board.power_on()
    bench.online()
    setattr(bench.cloud.faults, fault, 1)
    bench.error(code)
    for _ in range(2):
        bench.reported()
    seen = [e.data["id"] for e in bench.items if isinstance(e, Event) and e.name == "reported"]
    assert seen == list(range(seen[0], seen[0] + len(seen)))


def test_a_disabled_device_halts_and_keeps_its_report(make_enos_bench: MakeBench) -> None:
    """4.03 to a report is for a person; once that has enabled the device, the report is taken."""
    bench = make_enos_bench(family="bg95")
    bench.burn(bench.static())
    bench.board.power_on()
    bench.reported()
    bench.cloud.set_enabled(bench.product_key, DEVICE, False)
    bench.halted_with(506)
    seen = [e.data["id"] for e in bench.items if isinstance(e, Event) and e.name == "reported"]
    bench.cloud.set_enabled(bench.product_key, DEVICE, True)
    bench.power_cycle()
    assert bench.reported() == seen[-1] + 1


def test_replies_that_are_never_its_own_stop_nothing(make_enos_bench: MakeBench) -> None:
    """A cloud that accepts each report by CoAP but always replies nonsense is believed at the
    second time, and the error said."""
    bench = make_enos_bench(family="bg95")
    bench.burn(bench.static())
    bench.cloud.faults.truncated_json = 1_000_000
    bench.board.power_on()
    for _ in range(2):
        bench.error(604)
        bench.wait("reported")


def test_noise_on_the_line_is_survived(make_enos_bench: MakeBench) -> None:
    """Bytes of any kind, finals of nobody, URCs cut in half, a line without end: each report is
    acknowledged, some after a session more."""
    bench = make_enos_bench(family="bg95")
    bench.burn(bench.static())
    bench.board.power_on()
    bench.online()
    for noise in (
        bytes(range(256)),
        b"\r\nOK\r\n",
        b"\r\nERROR\r\n\r\n+CME ERROR: 3\r\n",
        b'\r\n+QSSLURC: "recv",9\r\n+QSSLURC: "closed"\r\nv",1\r\n',
        b"\r\n+CEREG: \r\n+CEREG: 0\r\n> ",
        b"x" * 3000,
    ):
        bench.modem.inject(noise)
        bench.reported()
    assert bench.device()["activations"] == 0


def test_an_answer_that_comes_too_late(make_enos_bench: MakeBench) -> None:
    """A modem that answers after the command's time: an error, the late answer is nobody's, and
    the next try comes online."""
    quirks = Quirks(slow={"+CGMM": 11.0})
    bench = make_enos_bench(family="bg95", modem={"quirks": quirks})
    bench.board.power_on()
    bench.error(221)
    quirks.slow.clear()
    bench.online()


def test_a_new_nat_binding_is_survived(make_enos_bench: MakeBench) -> None:
    """A NAT that forgets the unit kills its session silently: found by CoAP's timeout, healed by
    a new handshake; the report that was under way arrives."""
    bench = make_enos_bench(family="bg95")
    bench.burn(bench.static())
    bench.board.power_on()
    bench.online()
    bench.modem.rebind()
    bench.error(330, timeout_s=40)
    bench.wait("session", n=2)
    bench.online()


def test_a_reboot_of_the_modem_is_healed(make_enos_bench: MakeBench) -> None:
    """A modem that starts anew while the unit is online has lost its session: it gets another."""
    bench = make_enos_bench()
    bench.burn(bench.static())
    bench.board.power_on()
    bench.online()
    bench.modem.reboot()
    bench.wait("wait")
    bench.online()
    assert len(bench.sessions()) == 2


@pytest.mark.slow
def test_a_modem_sleeps_between_reports_that_are_far_apart(make_enos_bench: MakeBench) -> None:
    """Power saving is asked for, the modem sleeps, and its session is there when it wakes."""
    bench = make_enos_bench()
    bench.burn(bench.static(interval_s=120))
    bench.board.power_on()
    bench.wait("psm")
    bench.online()
    time.sleep(30)
    assert bench.modem.facts()["asleep"]
    bench.reported(timeout_s=150)
    assert len(bench.sessions()) == 1


@pytest.mark.slow
def test_the_lifetime_is_kept_by_reports(make_enos_bench: MakeBench) -> None:
    """A unit that need not report within its lifetime does, just before the cloud would take it
    for offline, and says nothing else."""
    bench = make_enos_bench()
    bench.burn(bench.static(interval_s=600, lifetime_s=30))
    bench.board.power_on()
    bench.online()
    before = bench.modem.counts.datagrams_up
    bench.reported(timeout_s=40)
    assert bench.modem.counts.datagrams_up == before + 1
    assert not bench.events("offline")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"sim": Sim(present=False)}, 225),
        ({"sim": Sim(pin=PIN)}, 226),
        ({"cell": Cell(attach_s=0.3, coverage=Coverage.DENIED)}, 231),
        ({"cell": Cell(attach_s=0.3, coverage=Coverage.BARRED)}, 231),
    ],
)
def test_a_refused_attach_has_its_reason(
    make_enos_bench: MakeBench, options: dict[str, object], code: int
) -> None:
    """No SIM, a PIN that is not burned, a refused subscriber, a barred cell: each has its code."""
    bench = make_enos_bench(modem=options)
    bench.board.power_on()
    bench.error(code, timeout_s=40)


def test_what_cannot_be_is_said(make_enos_bench: MakeBench) -> None:
    """DTLS by the chip where MicroPython has no pre-shared keys: 224, for a person."""
    bench = make_enos_bench()
    bench.burn(bench.make_identity(modem="none", wifi_ssid="bench"))
    bench.board.power_on()
    bench.halted_with(224)


@pytest.mark.parametrize("family", sampled(["nrf91", "sara-r5", "bg95", "gm02s"], 2))
def test_a_burned_band_is_used(make_enos_bench: MakeBench, family: str) -> None:
    """A unit whose band is burned holds its modem to it and comes online; after the next power-on
    of the board the modem is left as it is."""
    cell = Cell(attach_s=0.1, band=8)
    bench = make_enos_bench(family=family, modem={"cell": cell}, band=8)
    bench.board.power_on()
    bench.online(timeout_s=60)  # some start their modem twice
    searched = bench.modem.core.radio.bands.values()
    assert 1 << 7 in searched
    said = len(bench.modem.commands)
    bench.power_cycle()
    bench.wait("state", s="CONNECT")
    bench.online(timeout_s=60)
    assert not [line for line in bench.modem.commands[said:] if "CFUN" in line]


def test_a_burned_pin_opens_the_sim(make_enos_bench: MakeBench) -> None:
    """A SIM with a PIN works when the PIN is burned."""
    bench = make_enos_bench(modem={"sim": Sim(pin=PIN)}, sim_pin=PIN)
    bench.board.power_on()
    bench.online()


@pytest.mark.parametrize("wiring", [b'{"id":1}', b'{"id":1,"tx":17,"rx":16,"power_key":27}'])
def test_a_silent_modem_is_waited_for(make_enos_bench: MakeBench, wiring: bytes) -> None:
    """A modem that does not answer, not even when its key is pressed, if that is wired, is an
    error after a bounded wait; then the unit tries again."""
    bench = make_enos_bench(flash_content({"modem.json": wiring}))
    bench.modem.cut_line()
    bench.board.power_on()
    bench.error(220, timeout_s=60)
    bench.modem.cut_line(deaf=False)
    bench.online()
