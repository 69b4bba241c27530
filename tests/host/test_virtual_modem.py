"""The virtual modem as a person at a terminal sees it: lines, echo, errors, network, sleep."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import serial
from dtls_echo import CBC_SHA256, CCM_8, DtlsEcho
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.modem.bench import Modem, imei_of
from imprint_tools.virtual.modem.cellular import Cell, Coverage, Sim
from imprint_tools.virtual.modem.clock import HandClock
from imprint_tools.virtual.modem.families import FAMILIES
from imprint_tools.virtual.modem.grammar import CommandError, Kind, commands
from imprint_tools.virtual.modem.quirks import Quirks
from modem_terminal import HOST, IDENTITY, KEY, PORT, Terminal, modem

# -- grammar ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("AT", [""]),
        ("ATE0", ["E0"]),
        ("at+cfun=1", ["+CFUN"]),
        ("ATE1;+CMEE=1;+CEREG?", ["E1", "+CMEE", "+CEREG"]),
        ('AT%CMNG=0,1,4,"a;b"', ["%CMNG"]),
    ],
)
def test_a_line_holds_commands(line: str, names: list[str]) -> None:
    """Basic and extended ones, several by semicolon, which in quotes is text."""
    assert [command.name for command in commands(line)] == names


def test_parameters() -> None:
    """They are split outside of quotes; an omitted one is empty; each kind has its mark."""
    [command] = commands('AT+X=1,,"a,b",-2')
    assert command.args == ("1", "", '"a,b"', "-2")
    assert (command.number(0), command.number(1, 7), command.text(2)) == (1, 7, "a,b")
    for index in (1, 2, 4):
        with pytest.raises(CommandError):
            command.number(index)
    with pytest.raises(CommandError):
        command.text(0)
    kinds = [commands(line)[0].kind for line in ("AT+X", "AT+X?", "AT+X=?", "AT+X=1")]
    assert kinds == [Kind.DO, Kind.READ, Kind.TEST, Kind.SET]


# -- the line -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_boot_and_echo(family: str) -> None:
    """It tells of its start, echoes or not as its kind does, and ATE changes that."""
    with Terminal(modem(family)) as terminal:
        line = b"AT" + terminal.end
        terminal.send(line)
        assert terminal.expect(b"OK\r\n").startswith(line) == FAMILIES[family].ECHO
        terminal.ok("ATE0")
        terminal.send(line)
        assert terminal.expect(b"OK\r\n") == b"\r\nOK\r\n"


def test_echo_that_stays() -> None:
    """A modem that answers ATE0 and echoes on."""
    with Terminal(modem("bg95", quirks=Quirks(echo_lost=True))) as terminal:
        terminal.ok("ATE0")
        terminal.send(b"AT\r")
        assert terminal.expect(b"OK\r\n") == b"AT\r\r\nOK\r\n"


def test_junk_before_at_is_not_heard() -> None:
    """Neither noise nor the LF after a CR make a command or an error."""
    with Terminal(modem("nrf91")) as terminal:
        terminal.send(b"\x00\xff\nAT\r\n\nAT\r")
        assert terminal.read() == b"\r\nOK\r\n" * 2


def test_errors_are_as_wanted() -> None:
    """ERROR, a number or words, by CMEE."""
    with Terminal(modem("bg95", sim=Sim(present=False))) as terminal:
        assert terminal.ask("AT+CPIN?")[-1] == "ERROR"
        terminal.ok("AT+CMEE=1")
        assert terminal.ask("AT+CPIN?")[-1] == "+CME ERROR: 10"
        terminal.ok("AT+CMEE=2")
        assert terminal.ask("AT+CPIN?")[-1] == "+CME ERROR: SIM not inserted"
        assert terminal.ask("AT+CMEE=3")[-1] == "+CME ERROR: Incorrect parameters"
        assert terminal.ask("AT+NONSENSE")[-1] == "ERROR"


def test_nordic_joins_no_commands() -> None:
    """Nor does it know basic ones but ATE; others do."""
    with Terminal(modem("nrf91")) as terminal:
        assert terminal.ask("AT+CMEE=1;+CMEE=0")[-1] == "ERROR"
        assert terminal.ask("ATI")[-1] == "ERROR"
    with Terminal(modem("gm02s")) as terminal:
        assert terminal.ok("AT+CMEE=1;+CMEE?") == ["+CMEE: 1"]


def test_a_classic_modem_wants_cr_lf() -> None:
    """A CR alone ends no line."""
    with Terminal(modem("nrf91-slm")) as terminal:
        terminal.send(b"AT\r")
        assert terminal.read() == b""
        terminal.send(b"\n")
        terminal.expect(b"OK\r\n")


def test_commands_too_early_are_counted() -> None:
    """What comes before the final waits, and is held against the host."""
    with Terminal(modem("bg95", quirks=Quirks(slow={"+CMEE": 0.1}))) as terminal:
        terminal.send(b"AT+CMEE=1\r")
        terminal.expect(b"AT+CMEE=1\r")
        terminal.send(b"AT+CMEE?\r")
        assert terminal.expect(b"+CMEE: 1\r\n").startswith(b"\r\nOK\r\n")
        assert terminal.modem.early == len(b"AT+CMEE?\r")


def test_a_gap_is_wanted() -> None:
    """With that quirk, what follows a final too soon is lost."""
    with Terminal(modem("sara-r410")) as terminal:
        terminal.modem.quirks.gap_s = 0.3
        terminal.ok("AT")
        terminal.send(b"AT+CMEE?\r")
        assert terminal.read(0.5) == b""
        terminal.ok("AT+CMEE?")


def test_a_refusal_on_order() -> None:
    """A command fails with the number that was ordered, once."""
    with Terminal(modem("bg95", quirks=Quirks(refused={"+CFUN": 4}))) as terminal:
        terminal.ok("AT+CMEE=1")
        assert terminal.ask("AT+CFUN?")[-1] == "+CME ERROR: 4"
        terminal.ok("AT+CFUN?")


def test_noise_and_silence() -> None:
    """What the bench puts on the line arrives; a modem cut off neither hears nor speaks."""
    with Terminal(modem("nrf91")) as terminal:
        terminal.modem.inject(b"\x00noise\xff")
        terminal.expect(b"\x00noise\xff")
        terminal.modem.cut_line()
        terminal.send(b"AT\r")
        assert terminal.read() == b""
        terminal.modem.cut_line(False)
        assert terminal.ask("AT") == ["OK"]


# -- URCs ---------------------------------------------------------------------------------------


def test_nordic_holds_urcs_back() -> None:
    """While a command is at work, or half a line has come, for a second."""
    clock = HandClock()
    with Terminal(modem("nrf91", clock=clock)) as terminal:
        terminal.ok("AT+CEREG=1")
        terminal.send(b"AT+CF")
        terminal.read()
        terminal.modem.core.radio.functionality = 1
        terminal.modem.retry()
        assert terminal.read() == b""
        clock.advance(1.0)
        assert b"+CEREG: 1\r\n" in terminal.read()


def test_a_urc_inside_a_response() -> None:
    """With that quirk it comes between the line and its final, or only its tail does."""
    quirks = Quirks(urc_inside_response=True, slow={"+CMEE": 0.1})
    with Terminal(modem("bg95", quirks=quirks)) as terminal:
        terminal.ok("ATE0")
        terminal.attach()
        terminal.ok("AT+CEREG=1")
        terminal.send(b"AT+CMEE?")
        terminal.read()
        terminal.modem.lose_network()
        terminal.send(b"\r")
        text = terminal.expect(b"OK\r\n")
        assert text == b"\r\n+CMEE: 0\r\n\r\n+CEREG: 2\r\n\r\nOK\r\n"
        quirks.urc_fragment = True
        terminal.read()
        terminal.send(b"AT+CMEE?")
        terminal.read()
        terminal.modem.lose_network()
        terminal.send(b"\r")
        assert b"\r\n+CMEE: 0\r\nEG: 2\r\n" in terminal.expect(b"OK\r\n")


# -- network ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coverage", "told"),
    [
        (Coverage.HOME, '1,"1A2B","0012BEEF",9,,,"11100000","11100000"'),
        (Coverage.ROAMING, '5,"1A2B","0012BEEF",9,,,"11100000","11100000"'),
        (Coverage.DENIED, '3,"1A2B","0012BEEF",9,0,8'),
        (Coverage.BARRED, '3,"1A2B","0012BEEF",9,0,15'),
        (Coverage.NONE, "0"),
    ],
)
def test_registration(coverage: Coverage, told: str) -> None:
    """Searching first, then what the cell makes of it, with the cause of a refusal."""
    clock = HandClock()
    cell = Cell(coverage=coverage, attach_s=30.0)
    with Terminal(modem("nrf91", clock=clock, cell=cell)) as terminal:
        terminal.ok("AT+CEREG=5")
        terminal.ok("AT+CFUN=1")
        terminal.expect(b"+CEREG: 2\r\n")
        clock.advance(29.9)
        assert terminal.read() == b""
        clock.advance(0.1)
        terminal.expect(f"+CEREG: {told}\r\n".encode())
        assert terminal.ok("AT+CEREG?") == [f"+CEREG: 5,{told}"]


def test_a_scan_without_end() -> None:
    """It goes on searching."""
    clock = HandClock()
    with Terminal(modem("nrf91", clock=clock, cell=Cell(coverage=Coverage.SEARCHING))) as terminal:
        terminal.ok("AT+CEREG=1")
        terminal.ok("AT+CFUN=1")
        terminal.expect(b"+CEREG: 2\r\n")
        clock.advance(3600)
        assert terminal.read() == b""


def test_the_sim() -> None:
    """Busy, then its PIN, which is wrong three times: then it is locked."""
    clock = HandClock()
    with Terminal(modem("bg95", clock=clock, sim=Sim(pin="1234", busy_s=2))) as terminal:
        terminal.ok("AT+CMEE=1")
        assert terminal.ask("AT+CPIN?")[-1] == "+CME ERROR: 14"
        clock.advance(2)
        assert terminal.ok("AT+CPIN?") == ["+CPIN: SIM PIN"]
        assert terminal.ask("AT+CIMI")[-1] == "+CME ERROR: 11"
        for _ in range(3):
            assert terminal.ask('AT+CPIN="0000"')[-1] == "+CME ERROR: 16"
        assert terminal.ok("AT+CPIN?") == ["+CPIN: SIM PUK"]


def test_the_right_pin() -> None:
    """It registers without being told again."""
    with Terminal(modem("bg95", sim=Sim(pin="1234"))) as terminal:
        terminal.ok("AT+CEREG=1")
        terminal.ok('AT+CPIN="1234"')
        terminal.expect(b"+CEREG: 1\r\n")


def test_another_apn_gets_no_data() -> None:
    """Registered, but without an address."""
    with Terminal(modem("bg95", cell=Cell(attach_s=0, apn="iot"))) as terminal:
        terminal.attach()
        assert terminal.ok("AT+CGPADDR=1") == ["+CGPADDR: 1"]
        assert terminal.ask("AT+QIACT=1")[-1] == "ERROR"
        terminal.ok('AT+CGDCONT=1,"IP","iot"')
        assert terminal.ok("AT+CGPADDR=1") == ['+CGPADDR: 1,"10.64.0.2"']
        terminal.ok("AT+QIACT=1")


def test_power_saving_as_granted() -> None:
    """The network's timers, not the modem's wish; granted none, it stays awake."""
    clock = HandClock()
    cell = Cell(attach_s=0, active_time="00000011", periodic_tau="00100001", idle_after_s=4)
    with Terminal(modem("nrf91", clock=clock, cell=cell)) as terminal:
        terminal.ok("AT+CEREG=5")
        terminal.ok('AT+CPSMS=1,"","","10100101","00000001"')
        terminal.ok("AT+CFUN=1")
        clock.advance(0)
        terminal.expect(b'9,,,"00000011","00100001"\r\n')
        clock.advance(9.9)
        assert not terminal.modem.facts()["asleep"]
        clock.advance(0.1)
        assert terminal.modem.facts()["asleep"]
        cell.psm = False
        terminal.modem.retry()
        clock.advance(100)
        assert not terminal.modem.facts()["asleep"]


@pytest.mark.parametrize("family", ["bg95", "sara-r5"])
def test_some_boot_after_power_saving(family: str) -> None:
    """A byte wakes it, is lost, and it starts with nothing kept but its NVM."""
    cell = Cell(attach_s=0, idle_after_s=0, active_time="00000000")
    with Terminal(modem(family, cell=cell)) as terminal:
        terminal.attach()
        terminal.ok('AT+CPSMS=1,,,"00100001","00000001"')
        asleep(terminal.modem)
        terminal.send(b"AT+CMEE?\r")
        assert b"CMEE" not in terminal.read()
        assert terminal.modem.starts == 2


def test_eight_lost_bytes_wake_a_sequans() -> None:
    """With that quirk; its sockets stay."""
    cell = Cell(attach_s=0, idle_after_s=0, active_time="00000000")
    quirks = Quirks(lost_wake_bytes=8)
    with Terminal(modem("gm02s", cell=cell, quirks=quirks)) as terminal:
        terminal.attach()
        terminal.ok('AT+CPSMS=1,,,"00100001","00000001"')
        asleep(terminal.modem)
        terminal.send(b"AT+CMEE?\r")
        assert terminal.read() == b"\r"
        assert terminal.modem.starts == 1


def test_edrx() -> None:
    """The granted cycle is told by a URC in mode 2, and read."""
    with Terminal(modem("bg95", cell=Cell(attach_s=0, edrx="0011"))) as terminal:
        terminal.attach()
        terminal.ok('AT+CEDRXS=2,5,"0101"')
        terminal.expect(b'+CEDRXP: 5,"0101","0011","0001"\r\n')
        assert terminal.ok("AT+CEDRXRDP") == ['+CEDRXRDP: 5,"0101","0011","0001"']
        assert terminal.ask('AT+CEDRXS=2,5,"01"')[-1] == "ERROR"


# -- reboots ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
def test_a_reboot_on_order(after: bool) -> None:
    """At the second command from now: not done, or done; in both cases not answered."""
    with Terminal(modem("nrf91")) as terminal:
        terminal.modem.order_reboot(2, after=after)
        terminal.ok("AT+CMEE=1")
        terminal.send(b'AT%CMNG=0,1,4,"x"\r')
        assert terminal.expect(b"Ready\r\n") == b"\r\nReady\r\n"
        assert len(terminal.ok("AT%CMNG=1,1")) == int(after)
        assert terminal.ok("AT+CMEE?") == ["+CMEE: 0"]


def test_it_outlives_its_board(tmp_path: Path) -> None:
    """A board owns what is on its UARTs: a modem there goes on when the board is reset."""
    board = Board(tmp_path / "unit", machine=None)
    with modem("nrf91", stream=board.uarts.far_end(1)) as virtual:
        with board:
            board.reset()
            assert virtual.starts == 1
        with pytest.raises(ValueError, match="given its stream"):
            _ = virtual.stream


def test_a_port(tmp_path: Path) -> None:
    """A pseudo-terminal for people: programs come and go, the modem stays."""
    with Modem("bg95", pty=tmp_path / "tty", boot_s=0.0) as virtual:
        for word in (b"AT+CMEE=1\r", b"AT+CMEE?\r"):
            with serial.Serial(str(tmp_path / "tty"), timeout=5) as port:
                port.write(word)
                heard = port.read_until(b"OK\r\n")
        assert b"+CMEE: 1" in heard
        assert virtual.commands == ["AT+CMEE=1", "AT+CMEE?"]


def test_imeis() -> None:
    """15 digits of the range for tests, with Luhn's check digit, the same for the same name."""
    imei = imei_of("one")
    assert re.fullmatch("00101[0-9]{10}", imei) and imei == imei_of("one") != imei_of("two")
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(imei)]
    assert sum(value // 10 + value % 10 for value in doubled) % 10 == 0


# -- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "line"),
    [
        ("nrf91", f'AT%CMNG=0,1,3,"{KEY.hex()}"'),
        ("sara-r5", f'AT+USECPRF=0,8,"{KEY.hex()}",1'),
        ("gm02s", f'AT+SQNSPCFG=1,2,"0xAE",,,,,"{KEY.hex()}","x"'),
        ("bg95", 'AT+CPIN="0123"'),
    ],
)
def test_what_is_secret_is_not_told(family: str, line: str) -> None:
    """Of a command line with a key or a PIN the log has the name only."""
    told: list[str] = []
    with Terminal(modem(family, on_command=told.append)) as terminal:
        terminal.ask(line)
        assert told[-1] == terminal.modem.commands[-1] == line.partition("=")[0] + "=<not shown>"


# -- sessions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [CCM_8, CBC_SHA256])
def test_bytes_on_air(suite: str) -> None:
    """The handshake's flights and a record have the sizes of the RFCs' formulas, where extensions
    do not change them: key exchange and Finished 59 + identity, CCM_8 29 bytes a record."""
    with (
        DtlsEcho({IDENTITY: KEY}, [suite]) as echo,
        Terminal(modem("nrf91", echo.address)) as terminal,
    ):
        connect_nrf91(terminal)
        terminal.ok(f'AT#XSEND=0,1,0,"{bytes(64).hex()}"')
        terminal.expect(b"#XRECV: 0,1,64\r\n")
        sizes = terminal.modem.counts.sizes
        key_exchange = 27 + len(IDENTITY) + 14
        if suite == CCM_8:
            assert sizes[4:8] == [key_exchange + 53, -67, 93, -93]
        else:
            assert sizes[4:8] == [key_exchange + 93, -107, 141, -141]
        assert len(sizes) == 8


def test_a_server_that_is_away() -> None:
    """The handshake ends at its time, with ERROR; meanwhile commands wait."""
    with Terminal(modem("nrf91", ("127.0.0.1", 9))) as terminal:
        provision_nrf91(terminal)
        terminal.ok("AT#XSSOCKET=1,2,0,1,0")
        terminal.ok("AT#XSSOCKETOPT=0,1,18,1")
        begun = time.monotonic()
        assert terminal.ask(f'AT#XCONNECT=0,"{HOST}",{PORT}')[-1] == "ERROR"
        assert 0.9 < time.monotonic() - begun < 4


def test_a_key_too_long() -> None:
    """Mbed TLS takes 32 bytes: a longer key is stored, and ends in ERROR when it is used."""
    with Terminal(modem("nrf91", ("127.0.0.1", 9))) as terminal:
        terminal.ok('AT%CMNG=0,1,4,"x"')
        terminal.ok(f'AT%CMNG=0,1,3,"{bytes(33).hex()}"')
        terminal.attach()
        terminal.ok("AT#XSSOCKET=1,2,0,1,0")
        assert terminal.ask(f'AT#XCONNECT=0,"{HOST}",{PORT}')[-1] == "ERROR"


def provision_nrf91(terminal: Terminal) -> None:
    terminal.ok(f'AT%CMNG=0,1,4,"{IDENTITY}"')
    terminal.ok(f'AT%CMNG=0,1,3,"{KEY.hex()}"')
    terminal.attach()


def connect_nrf91(terminal: Terminal) -> None:
    provision_nrf91(terminal)
    terminal.ok("AT#XSSOCKET=1,2,0,1,0")
    terminal.ok("AT#XRECVCFG=0,1,1")
    assert terminal.ok(f'AT#XCONNECT=0,"{HOST}",{PORT}')[-1] == "#XCONNECT: 0,1"


def asleep(virtual: Modem) -> None:
    deadline = time.monotonic() + 5
    while not virtual.facts()["asleep"]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
