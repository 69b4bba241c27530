"""What each family of modems says, literally: credentials, sockets, limits, misbehaviours."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest
from dtls_echo import BYE, DtlsEcho
from imprint_tools.virtual.modem.air import Weather
from imprint_tools.virtual.modem.cellular import Cell
from imprint_tools.virtual.modem.quirks import Quirks
from modem_terminal import HOST, IDENTITY, KEY, PORT, Terminal, modem

HEX = KEY.hex()


@pytest.fixture
def echo() -> Iterator[DtlsEcho]:
    with DtlsEcho({IDENTITY: KEY}) as server:
        yield server


# -- Nordic -------------------------------------------------------------------------------------


def test_nrf91_credentials() -> None:
    """Written with the radio off only, listed by digest, not read back; kept without power."""
    with Terminal(modem("nrf91")) as terminal:
        terminal.ok("AT+CMEE=1")
        write = f'AT%CMNG=0,5,3,"{HEX}"'
        terminal.ok("AT+CFUN=1")
        assert terminal.ask(write)[-1] == "+CME ERROR: 518"
        terminal.ok("AT+CFUN=4")
        terminal.ok(write)
        assert terminal.ask(write)[-1] == "+CME ERROR: 519"
        assert terminal.ask('AT%CMNG=0,5,3,"no hex"')[-1] == "+CME ERROR: 50"
        assert terminal.ask("AT%CMNG=2,5,3")[-1] == "+CME ERROR: 514"
        assert terminal.ask("AT%CMNG=3,6,3")[-1] == "+CME ERROR: 513"
        digest = hashlib.sha256(HEX.encode()).hexdigest().upper()
        terminal.modem.reboot()
        terminal.expect(b"Ready\r\n")
        assert terminal.ok("AT%CMNG=1,5") == [f'%CMNG: 5,3,"{digest}"']
        terminal.ok("AT%CMNG=3,5,3")
        assert terminal.ok("AT%CMNG=1") == []


def nrf91_online(terminal: Terminal) -> None:
    terminal.ok("AT+CFUN=4")
    terminal.ok(f'AT%CMNG=0,1,4,"{IDENTITY}"')
    terminal.ok(f'AT%CMNG=0,1,3,"{HEX}"')
    terminal.attach()


def nrf91_session(terminal: Terminal) -> None:
    nrf91_online(terminal)
    assert terminal.ok("AT#XSSOCKET=1,2,0,1,0") == ["#XSSOCKET: 0,2,273"]
    assert terminal.ok(f'AT#XCONNECT=0,"{HOST}",{PORT}') == ["#XCONNECT: 0,1"]


def test_nrf91_pulls_data(echo: DtlsEcho) -> None:
    """By #XRECV, with its header and no line end after the payload; what is empty is an error."""
    with Terminal(modem("nrf91", echo.address)) as terminal:
        nrf91_session(terminal)
        assert terminal.ask("AT#XRECV=0,1,64,1")[-1] == "ERROR"
        terminal.ok('AT#XSEND=0,1,0,"0d0a4f4b0d0a"')
        terminal.send(b"AT#XRECV=0,1,0,5\r")
        assert terminal.expect(b"OK\r\n") == b"\r\n#XRECV: 0,1,6\r\n0a0d4b4f0a0d\r\nOK\r\n"
        terminal.ok('AT#XSEND=0,1,0,"0d0a4f4b0d0a"')
        terminal.send(b"AT#XRECV=0,0,0,5\r")
        assert terminal.expect(b"OK\r\n") == b"\r\n#XRECV: 0,0,6\r\n\n\rKO\n\r\r\nOK\r\n"


def test_nrf91_tells_of_data_once(echo: DtlsEcho) -> None:
    """#XAPOLL announces an event, and the next one after a read."""
    with Terminal(modem("nrf91", echo.address)) as terminal:
        nrf91_session(terminal)
        terminal.ok("AT#XAPOLL=0,1,1")
        terminal.ok('AT#XSEND=0,1,0,"01"')
        terminal.expect(b"#XAPOLL: 0,1\r\n")
        echo.say(b"more")
        assert terminal.read() == b""
        terminal.ok("AT#XRECV=0,1,0,5")
        terminal.expect(b"#XAPOLL: 0,1\r\n")


def test_nrf91_data_mode(echo: DtlsEcho) -> None:
    """Counted raw bytes after OK; the LF of a CR LF is the first of them."""
    with Terminal(modem("nrf91", echo.address)) as terminal:
        nrf91_session(terminal)
        terminal.send(b"AT#XSEND=0,2,0,4\r\n")
        terminal.expect(b"OK\r\n")
        terminal.send(b"abcd")
        terminal.expect(b"#XDATAMODE: 0\r\n")
        terminal.ok("AT#XRECV=0,1,0,5")
        assert echo.received == [b"\nabc"]


def test_nrf91_limits_and_options(echo: DtlsEcho) -> None:
    """1400 bytes in hexadecimal; a failed send may print 0; the suite and no CID can be read; a
    saved connection is mute until it is loaded."""
    with Terminal(modem("nrf91", echo.address, quirks=Quirks(zero_sent=True))) as terminal:
        nrf91_session(terminal)
        terminal.ok(f'AT#XSEND=0,1,0,"{bytes(1400).hex()}"')
        answer = terminal.ask(f'AT#XSEND=0,1,0,"{bytes(1401).hex()}"')
        assert answer == ["#XSEND: 0,0,0", "ERROR"]
        assert terminal.ok("AT#XSSOCKETOPT=0,0,4") == ["#XSSOCKETOPT: 0,0xc0a8"]
        assert terminal.ok("AT#XSSOCKETOPT=0,0,15") == ["#XSSOCKETOPT: 0,0"]
        terminal.ok("AT#XSSOCKETOPT=0,1,19,1")
        assert terminal.ask('AT#XSEND=0,1,0,"00"')[-1] == "ERROR"
        terminal.ok("AT#XSSOCKETOPT=0,1,20,1")
        terminal.ok('AT#XSEND=0,1,0,"00"')
        assert terminal.ask("AT#XSSOCKETOPT=0,1,18,5")[-1] == "ERROR"


def test_nrf91_a_ca_may_be_demanded(echo: DtlsEcho) -> None:
    """With that quirk a tag without CA must not be verified."""
    with Terminal(modem("nrf91", echo.address, quirks=Quirks(ca_demanded=True))) as terminal:
        nrf91_online(terminal)
        for verify, final in ((2, "ERROR"), (0, "OK")):
            terminal.ok(f"AT#XSSOCKET=1,2,0,1,{verify}")
            assert terminal.ask(f'AT#XCONNECT=0,"{HOST}",{PORT}')[-1] == final
            terminal.ok("AT#XCLOSE=0")


def test_nrf91_loses_its_sockets_with_the_network(echo: DtlsEcho) -> None:
    """They stay as handles that cannot send, but for those kept open; CFUN=0 ends all."""
    with Terminal(modem("nrf91", echo.address)) as terminal:
        nrf91_session(terminal)
        terminal.ok("AT#XSOCKETOPT=0,1,34,1")
        terminal.modem.lose_network()
        terminal.attach()
        terminal.ok('AT#XSEND=0,1,0,"00"')
        terminal.ok("AT+CFUN=0")
        assert terminal.ask('AT#XSEND=0,1,0,"00"')[-1] == "ERROR"
        assert terminal.ok("AT#XCLOSE") == ["#XCLOSE: 0,0"]


@pytest.mark.parametrize("later", [False, True])
def test_slm_proxy(later: bool, echo: DtlsEcho) -> None:
    """A datagram goes out by data mode and comes back counted; builds differ in what they print
    on entry and on leaving."""
    quirks = Quirks(prints_data_mode_ok=later, prints_data_mode_end=later)
    with Terminal(modem("nrf91-slm", echo.address, quirks=quirks)) as terminal:
        nrf91_online(terminal)
        refused = terminal.ask(f'AT#XUDPCLI=1,"{HOST}",{PORT},1,1,0,0')
        assert refused == ['#XUDPCLI: -134,"not connected"', "ERROR"]
        opened = terminal.ok(f'AT#XUDPCLI=1,"{HOST}",{PORT},1,0,0,0')
        assert opened == ['#XUDPCLI: 0,"connected"']
        terminal.send(b"AT#XUDPSEND\r\n")
        assert terminal.read() == (b"\r\nOK\r\n" if later else b"")
        terminal.send(b"\r\nOK\r\n")
        terminal.send(b"+++")
        terminal.expect(b"#XDATAMODE: 0\r\n" if later else b"OK\r\n")
        assert terminal.expect(b"#XUDPDATA: 6\r\n\n\rKO\n\r")
        assert terminal.ok("AT#XUDPCLI=0") == ['#XUDPCLI: 0,"disconnected"']


def test_slm_active_socket(echo: DtlsEcho) -> None:
    """One socket is the active one, which commands do not name."""
    with Terminal(modem("nrf91-slm", echo.address)) as terminal:
        nrf91_online(terminal)
        assert terminal.ok("AT#XSSOCKET=1,2,0,1,0") == ["#XSSOCKET: 0,2,273"]
        assert terminal.ok(f'AT#XCONNECT="{HOST}",{PORT}') == ["#XCONNECT: 1"]
        assert terminal.ok('AT#XSEND="hello"') == ["#XSEND: 5"]
        assert terminal.ok("AT#XPOLL=5000") == ['#XPOLL: 0,"0x0001"']
        terminal.send(b"AT#XRECV=5\r\n")
        assert terminal.expect(b"OK\r\n") == b"\r\n#XRECV: 5\r\nolleh\r\nOK\r\n"
        assert terminal.ok("AT#XSSOCKET=0") == ['#XSSOCKET: 0,"closed"']


# -- Quectel ------------------------------------------------------------------------------------


def bg95_online(terminal: Terminal, suite: str = "0XC0A8") -> None:
    text = f"{IDENTITY}&{HEX}".encode()
    terminal.send(b'AT+QFUPL="1_server.psk",%d,60\r' % len(text))
    terminal.expect(b"\r\nCONNECT\r\n")
    terminal.send(text)
    assert f"+QFUPL: {len(text)},".encode() in terminal.expect(b"OK\r\n")
    for setting in (f'"ciphersuite",1,{suite}', '"dtls",1,1', '"dtlsversion",1,1'):
        terminal.ok(f"AT+QSSLCFG={setting}")
    terminal.attach()
    terminal.ok('AT+QICSGP=1,1,"iot","","",0')
    terminal.ok("AT+QIACT=1")


def bg95_open(terminal: Terminal, mode: int = 0) -> bytes:
    terminal.ok(f'AT+QSSLOPEN=1,1,2,"{HOST}",{PORT},{mode}')
    terminal.expect(b"+QSSLOPEN: 2,")
    return terminal.expect(b"\r\n").strip()


def test_bg95_files() -> None:
    """They are listed, kept without power, read by whoever wants, not written over."""
    with Terminal(modem("bg95")) as terminal:
        terminal.ok("AT+CMEE=1")
        assert terminal.ask('AT+QFLST="x"')[-1] == "+CME ERROR: 405"
        terminal.send(b'AT+QFUPL="x",6,60\r')
        terminal.expect(b"CONNECT\r\n")
        terminal.send(b"\r\nOK\r\n")
        terminal.expect(b"\r\n+QFUPL: 6,4f4b\r\n\r\nOK\r\n")
        assert terminal.ask('AT+QFUPL="x",6,60')[-1] == "+CME ERROR: 407"
        terminal.modem.reboot()
        terminal.expect(b"APP RDY\r\n")
        assert terminal.ok('AT+QFLST="x"') == ['+QFLST: "x",6']
        terminal.send(b'AT+QFDWL="x"\r')
        terminal.expect(b"\r\nCONNECT\r\n\r\nOK\r\n\r\n+QFDWL: 6,4f4b\r\n\r\nOK\r\n")
        terminal.ok('AT+QFDEL="x"')


def test_bg95_buffer_mode(echo: DtlsEcho) -> None:
    """Announced once until drained; read by count; two datagrams are two reads."""
    with Terminal(modem("bg95", echo.address)) as terminal:
        terminal.ok("ATE0")
        bg95_online(terminal)
        assert bg95_open(terminal) == b"0"
        terminal.send(b"AT+QSSLSEND=2,6\r")
        assert terminal.expect(b"> ") == b"> "
        terminal.send(b"\r\nOK\r\n")
        terminal.expect(b"\r\nSEND OK\r\n")
        terminal.expect(b'+QSSLURC: "recv",2\r\n')
        echo.say(b"more")
        assert terminal.read() == b""
        terminal.send(b"AT+QSSLRECV=2,1500\r")
        assert terminal.expect(b"OK\r\n") == b"\r\n+QSSLRECV: 6\r\n\n\rKO\n\r\r\nOK\r\n"
        terminal.send(b"AT+QSSLRECV=2,1500\r")
        terminal.expect(b"\r\n+QSSLRECV: 4\r\nmore\r\nOK\r\n")
        terminal.send(b"AT+QSSLRECV=2,1500\r")
        terminal.expect(b"\r\n+QSSLRECV: 0\r\n\r\nOK\r\n")
        echo.say(b"again")
        terminal.expect(b'+QSSLURC: "recv",2\r\n')
        assert terminal.ask("AT+QSSLSEND=2,1461")[-1] == "ERROR"


def test_bg95_push_mode_and_close(echo: DtlsEcho) -> None:
    """Data comes with its URC; a server's goodbye is told."""
    with Terminal(modem("bg95", echo.address)) as terminal:
        bg95_online(terminal, "0X00AE")
        assert bg95_open(terminal, 1) == b"0"
        echo.say(b"\r\nOK\r\n")
        terminal.expect(b'+QSSLURC: "recv",2,6\r\n\r\nOK\r\n')
        terminal.send(b"AT+QSSLSEND=2,%d\r" % len(BYE))
        terminal.expect(b"> ")
        terminal.send(BYE)
        terminal.expect(b'+QSSLURC: "closed",2\r\n')


def test_bg95_refusals(echo: DtlsEcho) -> None:
    """A suite in quotes, an unknown name, no file, no context, a lost network."""
    with Terminal(modem("bg95", echo.address)) as terminal:
        assert terminal.ask('AT+QSSLCFG="ciphersuite",1,"0XC0A8"')[-1] == "ERROR"
        assert terminal.ask(f'AT+QSSLOPEN=1,1,2,"{HOST}",{PORT},0')[-1] == "ERROR"
        bg95_online(terminal)
        terminal.ok(f'AT+QSSLOPEN=1,1,2,"nowhere.example",{PORT},0')
        terminal.expect(b"+QSSLOPEN: 2,565\r\n")
        terminal.ok('AT+QFDEL="1_server.psk"')
        assert bg95_open(terminal) == b"566"
        assert terminal.ok("AT+QIGETERROR") == ["+QIGETERROR: 566,socket connect failed"]
        terminal.modem.lose_network()
        terminal.expect(b'+QIURC: "pdpdeact",1\r\n')


def test_bg95_powers_down() -> None:
    """It says so, and is silent until it is woken."""
    with Terminal(modem("bg95")) as terminal:
        terminal.send(b"AT+QPOWD\r")
        terminal.expect(b"POWERED DOWN\r\n")
        time.sleep(0.05)
        terminal.modem.wake()
        terminal.expect(b"APP RDY\r\n")


# -- Sequans ------------------------------------------------------------------------------------


def gm02s_dial(terminal: Terminal, final: str = "OK") -> None:
    terminal.ok(f'AT+SQNSPCFG=1,2,"0x8C;0x8D;0xAE;0xAF",,,,,"{HEX}","{IDENTITY}"')
    terminal.ok("AT+SQNSSCFG=1,1,1")
    terminal.ok("AT+SQNSCFG=1,1,300,90,600,50")
    terminal.attach()
    assert terminal.ask(f'AT+SQNSD=1,1,{PORT},"{HOST}",0,0,1')[-1] == final


def test_gm02s_session(echo: DtlsEcho) -> None:
    """Counted payloads, rings with their size, a goodbye of the server's."""
    with Terminal(modem("gm02s", echo.address)) as terminal:
        terminal.ok("ATE0")
        terminal.ok("AT+SQNSCFGEXT=1,1,0,0,0,0")
        gm02s_dial(terminal)
        terminal.send(b"AT+SQNSSENDEXT=1,6\r")
        terminal.expect(b"> ")
        terminal.send(b"\r\nOK\r\n")
        terminal.expect(b"+SQNSRING: 1,6\r\n")
        terminal.send(b"AT+SQNSRECV=1,1500\r")
        terminal.expect(b"\r\n+SQNSRECV: 1,6\r\n\n\rKO\n\r\r\nOK\r\n")
        assert terminal.ask("AT+SQNSRECV=1,1500")[-1] == "ERROR"
        terminal.send(b"AT+SQNSSEND=1\r")
        terminal.expect(b"> ")
        terminal.send(BYE + b"\x1a")
        terminal.expect(b"+SQNSH: 1\r\n")


def test_gm02s_hexadecimal(echo: DtlsEcho) -> None:
    """Both ways, and the data with its ring."""
    with Terminal(modem("gm02s", echo.address)) as terminal:
        terminal.ok("AT+SQNSCFGEXT=1,2,1,0,0,1")
        gm02s_dial(terminal)
        terminal.send(b"AT+SQNSSENDEXT=1,3\r")
        terminal.expect(b"> ")
        terminal.send(b"0a0B0c")
        terminal.expect(b"+SQNSRING: 1,3,0C0B0A\r\n")
        assert echo.received == [b"\x0a\x0b\x0c"]


def test_gm02s_failures(echo: DtlsEcho) -> None:
    """CCM_8 is unknown; a dial that fails is NO CARRIER, perhaps twice."""
    with Terminal(modem("gm02s", echo.address, quirks=Quirks(late_no_carrier=True))) as terminal:
        line = f'AT+SQNSPCFG=1,2,"0xC0A8",,,,,"{HEX}","{IDENTITY}"'
        assert terminal.ask(line)[-1] == "ERROR"
        terminal.modem.quirks.ccm_8 = True
        terminal.ok(line)
        terminal.modem.weather.loss = 1.0
        terminal.ok("AT+SQNSCFG=1,1,300,90,5,50")
        terminal.ok("AT+SQNSSCFG=1,1,1")
        terminal.attach()
        assert terminal.ask(f'AT+SQNSD=1,1,{PORT},"{HOST}",0,0,1')[-1] == "NO CARRIER"
        terminal.expect(b"\r\nNO CARRIER\r\n")


# -- u-blox -------------------------------------------------------------------------------------


def sara_online(terminal: Terminal, suite: str = '100,"C0","A8",0') -> None:
    for line in ("", ",0,0", ",1,3", f",2,{suite}", f',8,"{HEX}",1', f',9,"{IDENTITY}"'):
        terminal.ok(f"AT+USECPRF=0{line}")
    terminal.attach()
    if terminal.modem.family.FAMILY != "sara-r410":
        terminal.ok("AT+UPSD=0,0,0")
        terminal.ok("AT+UPSDA=0,3")
        terminal.expect(b'+UUPSDA: 0,"10.64.0.2"\r\n')


def sara_open(terminal: Terminal) -> str:
    address = terminal.ok(f'AT+UDNSRN=0,"{HOST}"')[-1].partition('"')[2].strip('"')
    assert terminal.ok("AT+USOCR=17") == ["+USOCR: 0"]
    terminal.ok("AT+USOSEC=0,1,0")
    time.sleep(0.26)
    return terminal.ask(f'AT+USOCO=0,"{address}",{PORT}')[-1]


def test_sara_hexadecimal(echo: DtlsEcho) -> None:
    """512 bytes at most; announced, read whole; what a short read cuts off is lost."""
    with Terminal(modem("sara-r5", echo.address)) as terminal:
        sara_online(terminal)
        terminal.ok("AT+UDCONF=1,1")
        assert sara_open(terminal) == "OK"
        assert terminal.ok('AT+USOWR=0,3,"0a0b0c"') == ["+USOWR: 0,3"]
        terminal.expect(b"+UUSORD: 0,3\r\n")
        assert terminal.ok("AT+USORD=0,0") == ["+USORD: 0,3"]
        assert terminal.ok("AT+USORD=0,2") == ['+USORD: 0,2,"0C0B"']
        assert terminal.ok("AT+USORD=0,2") == ['+USORD: 0,0,""']
        assert terminal.ask(f'AT+USOWR=0,513,"{bytes(513).hex()}"')[-1] == "ERROR"
        terminal.ok(f'AT+USOWR=0,{len(BYE)},"{BYE.hex()}"')
        terminal.expect(b"+UUSOCL: 0\r\n")


def test_sara_binary(echo: DtlsEcho) -> None:
    """After the prompt, and back between quotes as it is."""
    with Terminal(modem("sara-r5", echo.address)) as terminal:
        sara_online(terminal)
        assert sara_open(terminal) == "OK"
        terminal.send(b"AT+USOWR=0,6\r")
        terminal.expect(b"@")
        terminal.send(b'\r\nO"\r\n')
        terminal.expect(b"+UUSORD: 0,6\r\n")
        terminal.send(b"AT+USORD=0,100\r")
        terminal.expect(b'\r\n+USORD: 0,6,"\n\r"O\n\r"\r\n\r\nOK\r\n')


@pytest.mark.parametrize(
    ("family", "taken", "refused"),
    [
        ("sara-r5", '100,"c0","a8",0', '99,"C0","A8"'),
        ("sara-r422", '99,"C0","A8"', '100,"C0","A8",0'),
        ("sara-r410", "12", '99,"00","AE"'),
    ],
)
def test_sara_suites(family: str, taken: str, refused: str, echo: DtlsEcho) -> None:
    """Each module has its way to name them."""
    with Terminal(modem(family, echo.address)) as terminal:
        assert terminal.ask(f"AT+USECPRF=0,2,{refused}")[-1] == "ERROR"
        sara_online(terminal, taken)
        assert sara_open(terminal) == "OK"


def test_sara_profiles() -> None:
    """The list is read back, the key is not; a reset and a start empty them."""
    with Terminal(modem("sara-r5")) as terminal:
        terminal.ok('AT+USECPRF=0,2,100,"C0","A8",0')
        terminal.ok('AT+USECPRF=0,2,100,"00","AE",0')
        assert terminal.ok("AT+USECPRF=0,2") == ['+USECPRF: 0,2,100,"C0A8;00AE"']
        terminal.ok(f'AT+USECPRF=0,8,"{HEX}",1')
        assert terminal.ask("AT+USECPRF=0,8")[-1] == "ERROR"
        terminal.ok("AT+USECPRF=0")
        assert terminal.ok("AT+USECPRF=0,2") == ["+USECPRF: 0,2,0"]


def test_sara_is_in_no_hurry(echo: DtlsEcho) -> None:
    """To connect sooner than 250 ms after +USOSEC fails, and the socket is gone."""
    with Terminal(modem("sara-r5", echo.address)) as terminal:
        sara_online(terminal)
        terminal.ok(f'AT+UDNSRN=0,"{HOST}"')
        terminal.ok("AT+USOCR=17")
        terminal.ok("AT+USOSEC=0,1,0")
        assert terminal.ask(f'AT+USOCO=0,"100.64.0.1",{PORT}')[-1] == "ERROR"
        assert terminal.ok("AT+USOER") == ["+USOER: 113"]
        assert sara_open(terminal) == "OK"


def test_sara_misbehaves(echo: DtlsEcho) -> None:
    """Each way that u-blox's own library knows: lookups, connects, sends, URCs, hex keys."""
    quirks = Quirks(dns_fails_first=True, wrong_prefix=True, connect_fails_first=True)
    with Terminal(modem("sara-r5", echo.address, quirks=quirks)) as terminal:
        sara_online(terminal)
        assert terminal.ask(f'AT+UDNSRN=0,"{HOST}"')[-1] == "ERROR"
        assert terminal.ok(f'AT+UDNSRN=0,"{HOST}"') == ['+UUDNSRN: 0,"100.64.0.1"']
        assert sara_open(terminal) == "ERROR"
        assert sara_open(terminal) == "OK"
        terminal.ok("AT+UDCONF=1,1")
        quirks.bare_ok = True
        assert terminal.ok('AT+USOWR=0,1,"00"') == []
        quirks.bare_ok, quirks.unconnected_urc = False, True
        terminal.ok('AT+USOWR=0,1,"01"')
        terminal.expect(b"+UUSORF: 0,1\r\n")
        assert echo.received == [b"\x01"]
        quirks.hex_psk_refused = True
        assert terminal.ask('AT+USECPRF=1,8,"00",1')[-1] == "ERROR"
        terminal.ok('AT+USECPRF=1,8,"printable"')


# -- the air ------------------------------------------------------------------------------------


def test_weather_is_the_same_for_the_same_seed(echo: DtlsEcho) -> None:
    """And the session comes about in it: loss, duplicates, overtaking."""
    sizes = []
    for _ in range(2):
        weather = Weather(loss=0.3, duplicate=0.3, reorder=0.3)
        with Terminal(modem("nrf91", echo.address, weather=weather, seed=4)) as terminal:
            nrf91_session(terminal)
            sizes.append([size for size in terminal.modem.counts.sizes if size > 0][:2])
            assert terminal.modem.counts.lost > 0
    assert sizes[0] == sizes[1]


def test_latency(echo: DtlsEcho) -> None:
    """Each way; a full handshake has three round trips."""
    with Terminal(
        modem("nrf91", echo.address, weather=Weather(latency_s=0.05), retransmit_s=(2.0, 4.0))
    ) as terminal:
        nrf91_online(terminal)
        terminal.ok("AT#XSSOCKET=1,2,0,1,0")
        begun = time.monotonic()
        terminal.ok(f'AT#XCONNECT=0,"{HOST}",{PORT}')
        assert 0.3 <= time.monotonic() - begun < 1.5


def test_nat_rebinding(echo: DtlsEcho) -> None:
    """The server sees another port and drops what comes from it; nobody says anything."""
    with Terminal(modem("nrf91", echo.address)) as terminal:
        nrf91_session(terminal)
        terminal.ok("AT#XRECVCFG=0,1,1")
        terminal.modem.rebind()
        terminal.ok('AT#XSEND=0,1,0,"00"')
        echo.say(b"to the old port")
        assert terminal.read(0.3) == b""
        assert echo.received == []


def test_a_sleeping_modem_hears_nothing(echo: DtlsEcho) -> None:
    """The downlink is lost in power saving mode; the session goes on after it."""
    cell = Cell(attach_s=0, idle_after_s=0.1, active_time="00000000")
    with Terminal(modem("nrf91", echo.address, cell=cell)) as terminal:
        nrf91_session(terminal)
        terminal.ok("AT#XRECVCFG=0,1,1")
        terminal.ok('AT+CPSMS=1,"","","00100001","00000001"')
        deadline = time.monotonic() + 5
        while not terminal.modem.facts()["asleep"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        echo.say(b"lost")
        assert terminal.read(0.2) == b""
        terminal.ok('AT#XSEND=0,1,0,"0102"')
        terminal.expect(b"#XRECV: 0,1,2\r\n0201\r\n")
