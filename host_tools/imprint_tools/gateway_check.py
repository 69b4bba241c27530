"""Is a gateway's TLS as a device needs it? Names the cause where it is not.

Two looks at each port. The first connection verifies nothing and shows what the server sends, so
that a bad chain can be read; it carries no byte but the handshake's, no client certificate and no
credential, and is then closed. Where nothing is found wrong, a second connection is verified by
OpenSSL with the given CA and the name, as a careful client does; only that makes a port good.

`openssl s_client` misleads here: it prints "Verify return code: 0 (ok)" when no certificate came
at all, exits with 0 for a wrong CA, and does not look at the name unless told to.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cryptography import x509
from OpenSSL import SSL

from imprint_tools import certificates, chain_check
from imprint_tools.chain_check import Finding

SERVICES = {8883: "MQTT", 443: "HTTPS", 5671: "AMQP"}
TIMEOUT_S = 5.0

_CHUNK = 4096
_HEAD = 64  # bytes of the server's answer that are looked at
_ALERT, _HANDSHAKE = 21, 22  # content types, RFC 8446 5.1
_FOREIGN = {b"HTTP/": "HTTP", b"SSH-": "SSH", b"AMQP": "AMQP without TLS", b"220 ": "SMTP or FTP"}
# What OpenSSL says of a ServerKeyExchange or CertificateVerify that the key did not sign.
_NOT_PROVEN = ("bad signature", "invalid signature", "signature failure", "wrong signature type")


@dataclass(frozen=True)
class Port:
    """What one port showed. `findings` is empty where all is well.

    `wants_client` is true where the server ended the handshake after its own part of it, since we
    have no certificate; the verdict is then that of the first look. TLS 1.3 tells it too late to
    be seen here.
    """

    number: int
    address: str
    protocol: str
    chain: tuple[x509.Certificate, ...]
    findings: tuple[Finding, ...]
    wants_client: bool = False

    @property
    def service(self) -> str:
        return SERVICES.get(self.number, "TLS")


def check(
    host: str,
    ports: Sequence[int],
    anchors: Sequence[x509.Certificate],
    *,
    address: str | None = None,
    timeout_s: float = TIMEOUT_S,
    now: datetime.datetime | None = None,
) -> list[Port]:
    """Each of the ports; all at once. `address` is dialled instead of what `host` resolves to.

    `timeout_s` bounds each connecting and each handshake; `now` is for the dates of the chain.
    """
    when = now or certificates.utc_now()

    def one(number: int) -> Port:
        return _port(host, number, anchors, address or host, timeout_s, when)

    with ThreadPoolExecutor(len(ports)) as pool:
        return list(pool.map(one, ports))


def _port(
    host: str,
    number: int,
    anchors: Sequence[x509.Certificate],
    dialled: str,
    timeout_s: float,
    now: datetime.datetime,
) -> Port:
    look = _Look(host)
    address = ""
    try:
        sock, address = _connect(dialled, number, timeout_s)
        with sock:
            found = look.shake(sock, timeout_s)
    except _Stopped as stop:
        found = [stop.finding]
    if look.chain:
        try:
            found += chain_check.judge(look.chain, anchors, host, now)
        except ValueError as error:  # parsed no sooner than it is asked for
            found.append(Finding("refused-by-openssl", f"a certificate is damaged: {error}"))
    if not found and not look.wants_client:
        found = _verify(host, number, anchors, dialled, timeout_s)
    chain = tuple(look.chain)
    return Port(number, address, look.protocol, chain, tuple(found), look.wants_client)


class _Stopped(Exception):
    """The look ended here, and why."""

    def __init__(self, cause: str, about: str) -> None:
        super().__init__(about)
        self.finding = Finding(cause, about)


def _connect(host: str, number: int, timeout_s: float) -> tuple[socket.socket, str]:
    try:
        addresses = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        about = error.strerror if isinstance(error, OSError) else "no host name"
        raise _Stopped("name-unresolved", f"{host}: {about}") from None
    problem: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(timeout_s)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock, str(address[0])
    if isinstance(problem, ConnectionRefusedError):
        raise _Stopped("refused", f"{host} refuses connections to port {number}")
    reason = problem.strerror if problem and problem.strerror else f"no answer in {timeout_s:g} s"
    raise _Stopped("unreachable", f"{host} port {number}: {reason}")


class _Look:
    """A handshake that accepts anything, to see what the server has."""

    def __init__(self, host: str) -> None:
        self.chain: list[x509.Certificate] = []
        self.protocol = ""
        self.wants_client = False
        self._head = b""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_NONE)
        # Weak keys and anonymous suites as well, since what is not spoken cannot be shown.
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(SSL.TLS1_VERSION)
        self._tls = SSL.Connection(context, None)
        if not _is_address(host):
            with contextlib.suppress(UnicodeError):  # a name that resolves to nothing either
                self._tls.set_tlsext_host_name(host.encode("idna"))
        self._tls.set_connect_state()

    def shake(self, sock: socket.socket, timeout_s: float) -> list[Finding]:
        """Shake hands to the end or as far as it goes; what went wrong."""
        deadline = time.monotonic() + timeout_s
        try:
            while not self._step(sock, deadline):
                pass
        except _Stopped as stop:
            found = [stop.finding]
        else:
            found = []
        self.protocol = self._tls.get_protocol_version_name() if self._head else ""
        self.chain = self._tls.get_peer_cert_chain(as_cryptography=True) or []
        if self.chain and found and found[0].cause in ("closed", "handshake-refused"):
            # It has shown its chain and signed with its key, and misses ours.
            self.wants_client, found = True, []
        if not found and not self.chain:
            suite = self._tls.get_cipher_name()
            return [Finding("no-certificate", f"the cipher suite is {suite}, without certificate")]
        return found

    def _step(self, sock: socket.socket, deadline: float) -> bool:
        """One step of the handshake; True when it is done."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._flush(sock)
            self._tls.bio_write(self._receive(sock, deadline))
            return False
        except SSL.Error as error:
            raise self._explain(error) from None
        self._flush(sock)
        return True

    def _flush(self, sock: socket.socket) -> None:
        try:
            while True:
                sock.sendall(self._tls.bio_read(_CHUNK))
        except SSL.WantReadError:
            pass  # nothing more to send
        except OSError:
            raise _Stopped("closed", "the server closed the connection in the handshake") from None

    def _receive(self, sock: socket.socket, deadline: float) -> bytes:
        left_s = deadline - time.monotonic()
        try:
            sock.settimeout(max(left_s, 0.001))
            data = sock.recv(_CHUNK)
        except TimeoutError:
            raise _Stopped("silent", "no answer to the first message of TLS") from None
        except OSError:
            data = b""
        if not data:
            raise _Stopped("closed", "the server closed the connection in the handshake")
        if not self._head and data[0] not in (_ALERT, _HANDSHAKE):
            kind = next((kind for head, kind in _FOREIGN.items() if data.startswith(head)), "")
            about = kind or f"bytes that begin with {data[:4].hex(' ')}"
            raise _Stopped("not-tls", f"the server answers with {about}")
        self._head = (self._head + data)[:_HEAD]
        return data

    def _explain(self, error: SSL.Error) -> _Stopped:
        reasons = error.args[0] if error.args else ()
        words = "; ".join(str(reason[-1]) for reason in reasons) or "no reason given"
        if any(phrase in words for phrase in _NOT_PROVEN):
            return _Stopped("key-not-proven", words)
        if self._head[:1] == bytes([_ALERT]) or "alert" in words:
            return _Stopped("handshake-refused", words)
        return _Stopped("refused-by-openssl", words)


def _verify(
    host: str, number: int, anchors: Sequence[x509.Certificate], dialled: str, timeout_s: float
) -> list[Finding]:
    """The second look: OpenSSL's own verdict on chain, dates, purpose and name."""
    context = ssl.create_default_context(cadata=certificates.pem(*anchors).decode())
    # An intermediate may be what a device was given to trust; mbedTLS accepts that as well.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 asks for extensions that many a plant's CA lacks, and no board does.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        sock, _ = _connect(dialled, number, timeout_s)
        with sock, context.wrap_socket(sock, server_hostname=host):
            return []
    except _Stopped as stop:
        return [stop.finding]
    except ssl.SSLCertVerificationError as error:
        return [Finding("refused-by-openssl", error.verify_message)]
    except OSError as error:
        return [Finding("refused-by-openssl", str(error.strerror or error))]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
