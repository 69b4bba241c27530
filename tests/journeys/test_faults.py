"""What goes wrong in the field, and what a unit makes of it: it heals, or it says what to do.

A unit that can heal must do so by itself. One that cannot halts with an error that a person can
act on, and its REPL stays reachable. Nothing of it may cost a registration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from imprint_tools import inject
from imprint_tools.localcloud.aliyun.config import AliyunConfig
from imprint_tools.monitor import Event
from imprint_tools.ports import open_port
from imprint_tools.repl import Repl
from journey_bench import KIND, NAME, JourneyBench, flash_content

MakeBench = Callable[..., JourneyBench]

UNANSWERED_S = 60.0
"""The least that a unit waits before it repeats a registration that may have used a slot."""


# --- What was burned


def test_without_identity_it_says_so(bench: JourneyBench) -> None:
    """A unit that was flashed and not told who it is halts, and takes an identity at its REPL."""
    bench.burn(None)
    bench.board.power_on()
    bench.halted_with(101)
    with Repl(bench.board.url) as repl:
        inject.inject(repl, bench.identity)
        repl.restart()
    bench.online()


def test_a_root_ca_that_is_not_the_identitys_is_noticed(bench: JourneyBench) -> None:
    """An identity whose root CA was exchanged is damaged, and goes nowhere."""
    other = replace(
        bench.identity, blobs={"root_ca": bench.identity.entries()["root_ca"][:-1] + b"\0"}
    )
    bench.burn(other)
    bench.board.power_on()
    bench.halted_with(102)
    assert not bench.events("accept")


def test_a_corrupt_file_system_is_left_as_it_is(bench: JourneyBench) -> None:
    """What is no LittleFS is not formatted but said so; Ctrl-C gives the REPL, new files heal."""
    bench.board.power_on()
    bench.online()
    bench.write(b"\0" * 8192, KIND.vfs.offset)
    bench.board.power_on()
    bench.wait_text("file system seems corrupted")
    with open_port(bench.board.url) as port:
        port.write(b"\x03")
        bench.board.expect(b">>> ")
        port.write(b"print(6 * 7)\r")
        bench.board.expect(b"\n42")
    assert bench.read()[KIND.vfs.offset :][:8192] == b"\0" * 8192
    bench.write(flash_content()[KIND.vfs.offset :], KIND.vfs.offset)
    bench.board.power_on()
    bench.online()
    assert bench.registrations() == 1


def test_a_missing_module_is_named(make_bench: MakeBench) -> None:
    """A file system that lacks a module says so, and what to do, instead of a crash loop."""
    content = flash_content()
    at = content.index(b"onboarding.mpy", KIND.vfs.offset)
    bench = make_bench(content[:at] + b"x" + content[at + 1 :])
    bench.board.power_on()
    bench.wait_text("imprint flash")


def test_a_crash_loop_backs_off_and_leaves_the_repl(make_bench: MakeBench) -> None:
    """An application that always crashes slows its starts down, and Ctrl-C gets the REPL."""
    bench = make_bench(flash_content({"application.py": b"def read():\n    raise OSError(5)\n"}))
    bench.board.power_on()
    for _ in range(3):
        bench.wait("boot")
        bench.wait_text("OSError: [Errno 5]")
    assert "waiting 8 s" in bench.wait_text("without coming online")
    with Repl(bench.board.url) as repl:
        assert repl.call("count", "print(1 + 1)") == 2


# --- Link and clock


def test_a_wrong_wifi_password_is_named(make_bench: MakeBench) -> None:
    """The access point refuses the unit: it says so and tries again, as a weak signal may heal."""
    bench = make_bench(wifi_password="not the one")  # noqa: S106
    bench.board.power_on()
    assert bench.error(202).data["retry"]
    bench.wait("wait")
    bench.wait("state", s="LINK")


@pytest.mark.slow
def test_an_absent_access_point_is_named(make_bench: MakeBench) -> None:
    """A network that is not there is looked for 20 s, then named, then looked for again."""
    bench = make_bench(wifi_ssid="elsewhere")
    bench.board.power_on()
    bench.error(201, timeout_s=40)
    bench.wait("state", s="LINK")


def test_without_a_time_server_it_waits_and_heals(make_bench: MakeBench) -> None:
    """No certificate is checked, and nothing measured is dated, before the unit has the time."""
    bench = make_bench(ntp=False)
    bench.board.power_on()
    bench.error(210)
    bench.wait("state", s="LINK")
    assert not bench.outbox()
    assert not bench.events("accept")
    bench.air.ntp = True
    bench.online()


def test_reports_wait_out_an_outage_in_order(bench: JourneyBench) -> None:
    """The access point goes away for a while: no report is lost, and none overtakes another."""
    bench.board.power_on()
    first = bench.reported()
    bench.air.set_up(False)
    bench.wait("error", retry=True)
    bench.wait("wait")
    bench.wait("state", s="LINK")
    bench.air.set_up(True)
    last = bench.reported()
    while bench.wait("reported", acked=True).data["kept"]:
        pass
    last = bench.reported()
    ids = [int(event["id"]) for event in bench.events("report")]
    assert sorted(set(ids)) == list(range(first, last + 1))
    assert list(dict.fromkeys(ids)) == sorted(set(ids))
    assert bench.registrations() == 1


def test_reports_outlive_a_power_cut(bench: JourneyBench) -> None:
    """What was measured while the cloud was away is in flash: a power cut does not lose it."""
    bench.board.power_on()
    bench.online()
    bench.cloud.stop()
    while not bench.outbox():
        bench.wait("wait")  # each one long enough for another report
    bench.board.power_off()
    waiting = bench.outbox()
    bench.cloud.start()
    bench.air.routes[:] = bench.cloud.endpoints
    bench.board.power_on()
    bench.online()
    while bench.wait("reported", acked=True).data["kept"]:
        pass
    assert waiting <= {int(event["id"]) for event in bench.events("report")}


def test_it_comes_back_after_the_broker_did(bench: JourneyBench) -> None:
    """The broker goes away and comes back: so does the unit, with its token and its reports."""
    bench.board.power_on()
    first = bench.reported()
    bench.cloud.stop()
    bench.wait("error", retry=True)
    bench.cloud.start()
    bench.air.routes[:] = bench.cloud.endpoints
    bench.online()
    last = bench.reported()
    ids = {int(event["id"]) for event in bench.events("report")}
    assert set(range(first, last + 1)) <= ids
    assert bench.registrations() == 1


def test_a_cut_connection_is_made_again(bench: JourneyBench) -> None:
    """The connection is reset in the middle of it all: the unit logs in again by itself."""
    bench.board.power_on()
    bench.online()
    bench.air.cut()
    bench.wait("error", retry=True)
    bench.online()
    assert bench.registrations() == 1


def test_a_name_that_nobody_knows(bench: JourneyBench) -> None:
    """DNS does not know the cloud's host: said so, and tried again."""
    bench.air.routes.clear()
    bench.board.power_on()
    bench.error(301)
    bench.air.routes[:] = bench.cloud.endpoints
    bench.online()


# --- Who is at the other end


@pytest.mark.parametrize(
    ("certificate", "code"),
    [
        ("expired", 310),
        ("not-yet-valid", 310),
        ("ca-expired", 310),
        ("wrong-name", 311),
        ("other-ca", 312),
        ("self-signed", 312),
    ],
)
def test_a_server_that_does_not_verify_learns_nothing(
    make_bench: MakeBench, certificate: str, code: int
) -> None:
    """Date, name and chain are checked; a server that fails gets no CONNECT, so no signature."""
    # The bench refuses a root CA that has ended: this one had not when the unit was burned.
    burned_on = datetime.now(UTC) - timedelta(days=7) if certificate == "ca-expired" else None
    bench = make_bench(config=AliyunConfig(certificate=certificate), burned_on=burned_on)
    bench.board.power_on()
    assert bench.error(code).data["retry"]
    assert not bench.events("open")
    assert bench.registrations() == 0


@pytest.mark.parametrize(
    ("fault", "codes"),
    [("garbage_connack", (321,)), ("short_connack", (320, 321)), ("cut_connack", (320,))],
)
def test_a_broker_that_speaks_nonsense_is_left(
    bench: JourneyBench, fault: str, codes: tuple[int, ...]
) -> None:
    """Garbage in place of an answer, or half of one: named, and tried again."""
    setattr(bench.cloud.faults, fault, 1)
    bench.board.power_on()
    assert bench.wait("error").data["code"] in codes
    bench.online()
    assert bench.registrations() == 1


def test_a_broker_that_never_answers_is_left(bench: JourneyBench) -> None:
    """A broker that takes a CONNECT and says nothing costs 15 s, not for ever."""
    bench.cloud.faults.no_answer = 1
    bench.board.power_on()
    bench.error(322, timeout_s=25)
    bench.online()


def test_a_busy_platform_is_asked_again(bench: JourneyBench) -> None:
    """CONNACK 3 at registration and at login: the unit waits and tries again."""
    bench.cloud.faults.unavailable = 1
    bench.board.power_on()
    bench.error(404)
    bench.cloud.faults.unavailable = 1
    bench.wait("registered")
    bench.cloud.faults.unavailable = 0
    bench.online()
    bench.cloud.faults.unavailable = 1
    bench.power_cycle()
    bench.error(503)
    bench.online()
    assert bench.registrations() == 1


# --- Registration and login


def test_the_five_client_id_limit_is_named(bench: JourneyBench) -> None:
    """The sixth unit of one name halts: a person has to free a ClientID."""
    for count in range(1, 6):
        bench.burn(bench.identity)
        bench.board.power_on()
        bench.wait("registered")
        assert bench.device()["client_ids"] == count
    bench.burn(bench.identity)
    bench.board.power_on()
    bench.halted_with(402)
    bench.cloud.delete_client_ids(bench.product_key, NAME)
    bench.power_cycle()
    bench.online()


def test_an_activated_name_is_not_registered_again(make_bench: MakeBench) -> None:
    """Under `register` a name that has logged in halts a second unit, until ResetThing."""
    bench = make_bench(registration="register")
    bench.cloud.create_device(bench.product_key, NAME)
    bench.board.power_on()
    bench.online()
    bench.burn(bench.identity)
    bench.board.power_on()
    bench.halted_with(403)
    bench.cloud.reset_thing(bench.product_key, NAME)
    bench.power_cycle()
    bench.online()


def test_a_closed_registration_halts(bench: JourneyBench) -> None:
    """With the product's switch off the unit halts, and says which switch it is."""
    bench.cloud.set_dynamic_registration(bench.product_key, False)
    bench.board.power_on()
    error: Event = bench.halted_with(402)
    assert error.error and "Dynamic Registration" in error.error.next_step


def test_a_token_that_is_not_valid_any_more_halts(bench: JourneyBench) -> None:
    """A refused token does not lead to a new registration: somebody took it away on purpose."""
    bench.board.power_on()
    bench.online()
    bench.cloud.delete_client_ids(bench.product_key, NAME)
    bench.power_cycle()
    bench.halted_with(502)
    assert bench.registrations() == 1
    assert "cred_a" in bench.entries()


@pytest.mark.parametrize("fault", ["drop_before_push", "cut_push"])
def test_an_unknown_outcome_is_not_repeated_at_once(bench: JourneyBench, fault: str) -> None:
    """A registration whose answer was lost may have used a slot: the next one waits a minute."""
    setattr(bench.cloud.faults, fault, 1)
    bench.board.power_on()
    bench.error(405)
    assert bench.wait("wait").data["ms"] >= UNANSWERED_S * 1000


def test_a_push_that_is_nonsense_halts(bench: JourneyBench) -> None:
    """What is no credential is not stored, and not asked for again, since that uses a slot."""
    bench.cloud.faults.garbage_push = 1
    bench.board.power_on()
    bench.halted_with(406)
    assert bench.registrations() == 1
    assert not {"cred_a", "cred_b"} & set(bench.entries())


def test_a_connection_lost_after_the_push_costs_nothing(bench: JourneyBench) -> None:
    """The credential has arrived when the connection breaks: it is kept and used."""
    bench.cloud.faults.drop_after_push = 1
    bench.board.power_on()
    bench.online()
    assert bench.registrations() == 1


# --- Reports


def test_a_report_that_was_not_taken_is_sent_again(bench: JourneyBench) -> None:
    """The connection is lost in place of a PUBACK: the same report comes again, with its id."""
    bench.cloud.faults.drop_on_publish = 1
    bench.board.power_on()
    bench.wait("error", retry=True)
    first = bench.reported()
    ids = [int(event["id"]) for event in bench.events("report")]
    assert ids[0] == first


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "code"), [("no_puback", 322), ("no_reply", 604)])
def test_a_report_without_answer_is_kept(bench: JourneyBench, fault: str, code: int) -> None:
    """A missing PUBACK or reply is noticed within 15 s, and the report is sent again."""
    setattr(bench.cloud.faults, fault, 1)
    bench.board.power_on()
    bench.error(code, timeout_s=40)
    bench.online(timeout_s=40)
    ids = [int(event["id"]) for event in bench.events("report")]
    assert sorted(set(ids)) == list(range(min(ids), max(ids) + 1))


def test_a_disabled_device_halts(bench: JourneyBench) -> None:
    """A device that was disabled in the console stops reporting and says who can help."""
    bench.board.power_on()
    bench.online()
    bench.cloud.set_enabled(bench.product_key, NAME, False)
    bench.halted_with(603)
    bench.power_cycle()
    bench.halted_with(502)
    bench.cloud.set_enabled(bench.product_key, NAME, True)
    bench.power_cycle()
    bench.online()
    assert bench.registrations() == 1
