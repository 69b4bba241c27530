"""microCoAPy over the modem's DTLS: an application that was written for it runs unchanged.

On a unit with an NB-IoT modem, from the REPL or as application code:

    imprint image build --with-package ./microCoAPy ...    brings microcoapy onto the board
    >>> from imprint.secret import Secret
    >>> from microcoapy_over_modem import main
    >>> main("coap.example.com", "oven/temperature", b"identity", Secret(...))

microCoAPy takes any object with sendto(bytes, address), recvfrom(n), setblocking(flag) and
close() by `setCustomSocket`; our DatagramSocket is one. It retransmits nothing and matches no
tokens: for that there is imprint.net.coap_client, over the same socket.

The wiring is boards/esp32-nrf9151.toml's; another kit has its own pins and dialect.
"""

from imprint.modem import dialects
from imprint.modem.datagram import DatagramSocket
from imprint.modem.dialects import status
from imprint.modem.engine import Engine
from imprint.modem.uart import ModemUart

PORT = 5684
TAG = 1  # under which the modem keeps the pre-shared key


def open_modem(stream, family="nrf91", feed=lambda: None):
    """The modem at the other end of `stream`, ready for commands."""
    dialect = dialects.load(family)
    modem = ModemUart(stream, Engine(dialect), dialect, feed)
    print("modem:", modem.run(dialects.setup(dialect).power_up()))
    return modem


def online(modem, apn, identity, key, marker=None):
    """Bring the modem into the network with its key in place; the marker to keep for next time.

    `key` is a Secret: it shows in no trace and no error."""
    dialect = modem.dialect
    marker = modem.run(dialects.dialer(dialect).provision_psk(TAG, identity, key, marker))
    modem.run(dialects.setup(dialect).attach(apn))
    print("signal:", modem.run(status.signal()))
    return marker


def get(modem, host, path, client, timeout_ms=60000):
    """GET `path` with `client`, a microcoapy.Coap(); the answer's payload, or None."""
    answers = []
    sock = DatagramSocket(modem, host, PORT, TAG)
    try:
        client.setCustomSocket(sock)
        client.responseCallback = lambda packet, sender: answers.append(packet.payload)
        client.get(host, PORT, path)
        client.poll(timeout_ms)
    finally:
        sock.close()
    return answers[0] if answers else None


def main(host, path, identity, key, apn="iot"):
    import microcoapy
    from machine import UART

    stream = UART(1, 115200, tx=32, rx=33, rts=25, cts=26, timeout=0, rxbuf=2048)
    modem = open_modem(stream)
    online(modem, apn, identity, key)
    print(get(modem, host, path, microcoapy.Coap()))
