"""TLS servers on loopback, each wrong in one way, and a good one; the judge is the client.

with tls_servers.serve("expired", folder) as server:
    connect to 127.0.0.1:server.port as tls_servers.HOST, trusting server.anchor
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from imprint_tools import certificates
from imprint_tools.certificates import PrivateKey, Purpose

HOST = "gw.local"
_DAY = datetime.timedelta(days=1)
_TIMEOUT_S = 10.0
_SERVER = Purpose(server=True, names=(HOST,))


@dataclass(frozen=True)
class Holder:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True)
class Chain:
    """What a server has: its key, what it sends, and what a client of it is to trust."""

    key: PrivateKey
    sent: tuple[x509.Certificate, ...]
    anchor: x509.Certificate


@dataclass(frozen=True)
class Server:
    port: int
    anchor: x509.Certificate


def _make(
    name: str,
    purpose: Purpose,
    above: Holder | None,
    *,
    key: PrivateKey | None = None,
    begin: datetime.timedelta = -_DAY,
    end: datetime.timedelta = 30 * _DAY,
) -> Holder:
    now = certificates.utc_now()
    own = key or certificates.new_key("ec")
    issuer, signer = (above.certificate, above.key) if above else (None, own)
    return Holder(
        certificates.build(
            name, own.public_key(), issuer, signer, now + begin, now + end, purpose
        ),
        own,
    )


def _authority(name: str, above: Holder | None = None, length: int = 1) -> Holder:
    return _make(name, Purpose(authority=True, path_length=length), above)


@functools.cache
def _above() -> tuple[Holder, Holder]:
    """Root and intermediate of all servers of a test run."""
    root = _authority("Test root")
    return root, _authority("Test intermediate", root, 0)


def _chain(leaf: Holder) -> Chain:
    """A leaf below the intermediate, which is sent with it."""
    root, middle = _above()
    return Chain(leaf.key, (leaf.certificate, middle.certificate), root.certificate)


def _leaf(purpose: Purpose = _SERVER, name: str = HOST, **how: object) -> Chain:
    return _chain(_make(name, purpose, _above()[1], **how))  # type: ignore[arg-type]


def _other_ca(name: str) -> Chain:
    """A chain that is good but for its root, of which the client has another."""
    root = _authority(name)
    middle = _authority("Other intermediate", root, 0)
    leaf = _make(HOST, _SERVER, middle)
    sent = (leaf.certificate, middle.certificate)
    return Chain(leaf.key, sent, _above()[0].certificate)


def _self_signed() -> Chain:
    leaf = _make(HOST, _SERVER, None)
    return Chain(leaf.key, (leaf.certificate,), _above()[0].certificate)


def _missing_intermediate() -> Chain:
    good = _leaf()
    return Chain(good.key, good.sent[:1], good.anchor)


def _not_an_authority() -> Chain:
    """Signed by a device's certificate, with a device's key."""
    root, _ = _above()
    device = _make("unit-1", certificates.CLIENT, root)
    leaf = _make(HOST, _SERVER, device)
    return Chain(leaf.key, (leaf.certificate, device.certificate), root.certificate)


def _ended_intermediate() -> Chain:
    root, _ = _above()
    purpose = Purpose(authority=True, path_length=0)
    middle = _make("Ended intermediate", purpose, root, begin=-3 * _DAY, end=-_DAY)
    leaf = _make(HOST, _SERVER, middle)
    return Chain(leaf.key, (leaf.certificate, middle.certificate), root.certificate)


def _signs_nothing() -> Chain:
    """A key that is for key agreement only."""
    key = certificates.new_key("ec")
    middle = _above()[1]
    now = certificates.utc_now()
    usage = x509.KeyUsage(
        key_agreement=True, digital_signature=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_cert_sign=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(middle.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(certificates.alternative_names([HOST]), critical=False)
        .add_extension(usage, critical=True)
    )
    return _chain(Holder(builder.sign(middle.key, hashes.SHA256()), key))


def _weak_key() -> Chain:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    return _leaf(key=key)


CHAINS: dict[str, Callable[[], Chain]] = {
    "good": _leaf,
    "good-rsa": lambda: _leaf(key=certificates.new_key("rsa")),
    "good-wildcard": lambda: _leaf(Purpose(server=True, names=("*.gw.local",))),
    "good-address": lambda: _leaf(Purpose(server=True, names=("127.0.0.1",)), "gateway"),
    "expired": lambda: _leaf(begin=-3 * _DAY, end=-_DAY),
    "expired-intermediate": _ended_intermediate,
    "not-yet-valid": lambda: _leaf(begin=_DAY),
    "other-name": lambda: _leaf(Purpose(server=True, names=("other.example",)), "other.example"),
    "name-in-cn-beside-another": lambda: _leaf(Purpose(server=True, names=("other.example",))),
    "name-in-cn-only": lambda: _leaf(Purpose(server=True)),
    "other-ca": lambda: _other_ca("Other root"),
    "other-ca-of-the-same-name": lambda: _other_ca("Test root"),
    "self-signed": _self_signed,
    "missing-intermediate": _missing_intermediate,
    "not-an-authority": _not_an_authority,
    "for-clients": lambda: _leaf(Purpose(client=True, names=(HOST,))),
    "signs-nothing": _signs_nothing,
    "weak-key": _weak_key,
}
WANTS_CLIENT = "wants-client"
STOLEN = "stolen"
SILENT, CLOSES, PLAIN_HTTP, PLAIN_MQTT = (
    "silent", "closes", "plain-http", "plain-mqtt",
)  # fmt: skip
NO_CERTIFICATE, NO_COMMON_SUITE = "no-certificate", "no-common-suite"
WITHOUT_TLS = {
    SILENT: b"",
    CLOSES: None,
    PLAIN_HTTP: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    PLAIN_MQTT: b"\x20\x02\x00\x01",
}
"""What each answers to a ClientHello: nothing for ever, the end, or something."""


DATE, NAME, ISSUER, FAILED, UNFIT = 310, 311, 312, 313, 314  # firmware/imprint/errors.py
VERDICTS = {
    "expired": (DATE, "expired"),
    "expired-intermediate": (DATE, "expired"),
    "not-yet-valid": (DATE, "not-yet-valid"),
    "other-name": (NAME, "wrong-name"),
    "name-in-cn-beside-another": (NAME, "name-in-cn-only"),
    "name-in-cn-only": (NAME, "name-in-cn-only"),
    "other-ca": (ISSUER, "other-ca"),
    "other-ca-of-the-same-name": (ISSUER, "other-ca"),
    "self-signed": (ISSUER, "self-signed"),
    "missing-intermediate": (ISSUER, "missing-intermediate"),
    "not-an-authority": (ISSUER, "not-an-authority"),
    "for-clients": (UNFIT, "wrong-usage"),
    "signs-nothing": (UNFIT, "wrong-usage"),
    "weak-key": (UNFIT, "weak"),
    STOLEN: (FAILED, "key-not-proven"),
    NO_CERTIFICATE: (FAILED, "no-certificate"),
    NO_COMMON_SUITE: (FAILED, "handshake-refused"),
    CLOSES: (FAILED, "closed"),
    PLAIN_HTTP: (FAILED, "not-tls"),
    PLAIN_MQTT: (FAILED, "not-tls"),
}
"""What a board's code for each bad server is, and the cause that `imprint gateway check` names.

SILENT is not among them: a board's stream ends it by its own deadline.
"""


GOOD = {
    "good": HOST,
    "good-rsa": HOST,
    "good-wildcard": "eu-1.gw.local",
    "good-address": "127.0.0.1",
}
"""The good ones, and the name by which each is to be dialled."""


def bad_servers() -> list[str]:
    """Those of VERDICTS that this machine can serve: STOLEN needs a library."""
    return [kind for kind in VERDICTS if kind != STOLEN or find_spec("mbedtls")]


@contextlib.contextmanager
def serve(
    kind: str, folder: Path, *, answer: bytes = b"", clients: x509.Certificate | None = None
) -> Iterator[Server]:
    """A server of CHAINS or WITHOUT_TLS, or one of the others above, until the block ends.

    After the handshake it sends `answer` and reads until the client closes. WANTS_CLIENT trusts
    certificates of clients that `clients` signed.
    """
    anchor = _above()[0].certificate
    talk: Callable[[socket.socket], None]
    if kind in WITHOUT_TLS:
        talk = functools.partial(_without_tls, WITHOUT_TLS[kind])
    elif kind == STOLEN:
        talk = _stolen()
    else:
        makes = CHAINS["good"] if kind == WANTS_CLIENT else CHAINS.get(kind)
        chain = makes() if makes else None
        anchor = chain.anchor if chain else anchor
        context = _context(kind, chain, folder, clients)
        talk = functools.partial(_with_tls, context, answer)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ends = threading.Event()
        thread = threading.Thread(target=_accept, args=(listening, talk, ends), daemon=True)
        thread.start()
        try:
            yield Server(listening.getsockname()[1], anchor)
        finally:
            ends.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listening.getsockname(), _TIMEOUT_S).close()
            thread.join(_TIMEOUT_S)


def _context(
    kind: str, chain: Chain | None, folder: Path, clients: x509.Certificate | None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if chain is None:
        # Without a certificate there are anonymous suites only, which TLS 1.3 has not.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("aNULL:@SECLEVEL=0" if kind == NO_CERTIFICATE else "PSK:@SECLEVEL=0")
        return context
    if kind == WANTS_CLIENT:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=certificates.pem(clients or chain.anchor).decode())
    if kind == "weak-key":
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    file = folder / f"{kind}.pem"
    key = certificates.key_bytes(chain.key).reveal()
    file.write_bytes(key + certificates.pem(*chain.sent))
    context.load_cert_chain(file)
    return context


def _accept(
    listening: socket.socket, talk: Callable[[socket.socket], None], ends: threading.Event
) -> None:
    while True:
        sock, _ = listening.accept()
        with sock:
            if ends.is_set():
                return
            sock.settimeout(_TIMEOUT_S)
            with contextlib.suppress(OSError):  # the client refused, which is what tests are about
                talk(sock)


def _with_tls(context: ssl.SSLContext, answer: bytes, sock: socket.socket) -> None:
    with context.wrap_socket(sock, server_side=True) as secure:
        if answer:
            secure.sendall(answer)
        while secure.recv(1024):
            pass


def _stolen() -> Callable[[socket.socket], None]:
    """Somebody else's good certificate, and a key of one's own; mbedTLS serves even that."""
    from mbedtls import exceptions, pk, tls
    from mbedtls import x509 as mbedtls_x509

    good = CHAINS["good-rsa"]()
    own = certificates.key_bytes(certificates.new_key("rsa")).reveal().decode()
    sent = [mbedtls_x509.CRT.from_DER(certificates.der(one)) for one in good.sent]
    context = tls.ServerContext(
        tls.TLSConfiguration(
            certificate_chain=(sent, pk.RSA.from_PEM(own)), validate_certificates=False
        )
    )

    def talk(sock: socket.socket) -> None:
        buffers = context.wrap_buffers()
        while data := sock.recv(4096):
            buffers.receive_from_network(data)
            with contextlib.suppress(tls.WantReadError):
                while True:
                    try:
                        buffers.do_handshake()
                    except tls.WantWriteError:
                        pass
                    except exceptions.TLSError:
                        return
                    waiting = buffers.peek_outgoing(1 << 16)
                    sock.sendall(waiting)
                    buffers.consume_outgoing(len(waiting))

    return talk


def _without_tls(answer: bytes | None, sock: socket.socket) -> None:
    sock.recv(1024)
    if answer is None:
        return
    if answer:
        sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)
    while sock.recv(1024):
        pass
