"""An MQTT client that is nothing but bytes, to say to a server what no library would say.

Wire literals of its own, so that a mistake in the server's codec is not repeated here. Every wait
is bounded by the socket's timeout.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import struct
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from imprint_tools.localcloud.cloud import Cloud

WAIT_S = 10.0
HOST = "a1B2c3D4e5F.iot-as-mqtt.cn-shanghai.aliyuncs.com"


class RawClient:
    """One connection. `port` is the vendor's; TLS is verified with the cloud's own root, or `ca`.
    `certificate`: the client's own, as (chain, key)."""

    session_present = 0

    def __init__(
        self,
        cloud: Cloud[Any],
        *,
        port: int = 8883,
        tls: bool = True,
        host: str = HOST,
        certificate: tuple[Path, Path] | None = None,
        ca: Path | None = None,
    ) -> None:
        ways = [e for e in cloud.endpoints if e.port == port]
        target = next((e for e in ways if fnmatch(host, e.host)), ways[0]).target
        plain = socket.create_connection(target, WAIT_S)
        self._sock: socket.socket = plain
        if tls:
            context = ssl.create_default_context(cafile=str(ca or cloud.ca_pem))
            if certificate is not None:
                context.load_cert_chain(*certificate)
            try:
                self._sock = context.wrap_socket(plain, server_hostname=host)
            except BaseException:
                plain.close()
                raise

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def read(self, count: int) -> bytes:
        """That many bytes, fewer where the server ends the connection."""
        data = b""
        while len(data) < count:
            try:
                chunk = self._sock.recv(count - len(data))
            except ConnectionError:
                chunk = b""
            if not chunk:
                return data
            data += chunk
        return data

    def packet(self) -> tuple[int, bytes] | None:
        """(first byte, body) of the next packet; None where the server ended the connection."""
        first = self.read(1)
        if not first:
            return None
        length = shift = 0
        while True:
            digit = self.read(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return first[0], self.read(length)

    def ended(self) -> bool:
        """Does the server end the connection, with nothing more to say?"""
        return self.read(1) == b""

    def connect(self, client_id: str, username: str, password: str | None, **options: Any) -> int:
        """CONNECT; the CONNACK's code."""
        self.send(connect(client_id, username, password, **options))
        answer = self.packet()
        assert answer is not None, "closed in place of a CONNACK"
        first, body = answer
        assert (first, len(body)) == (0x20, 2)
        self.session_present = body[0]
        return body[1]

    def publish(self, topic: str, payload: bytes, packet_id: int = 0, flags: int = 0) -> None:
        body = text(topic) + (struct.pack(">H", packet_id) if packet_id else b"") + payload
        self.send(packet(0x30 | (2 if packet_id else 0) | flags, body))

    def subscribe(self, *filters: str, qos: int = 1) -> bytes:
        """SUBSCRIBE; the SUBACK's codes."""
        body = b"".join(text(f) + bytes([qos]) for f in filters)
        self.send(packet(0x82, b"\x00\x07" + body))
        answer = self.packet()
        assert answer is not None and answer[0] == 0x90 and answer[1][:2] == b"\x00\x07"
        return answer[1][2:]

    def message(self) -> tuple[str, bytes, int]:
        """The next PUBLISH from the server: topic, payload, packet identifier (0 for QoS 0)."""
        answer = self.packet()
        assert answer is not None, "closed in place of a PUBLISH"
        first, body = answer
        assert first & 0xF0 == 0x30, f"packet {first:#x}"
        length = struct.unpack(">H", body[:2])[0]
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        if first & 0x06:
            return topic, rest[2:], int(struct.unpack(">H", rest[:2])[0])
        return topic, rest, 0

    def json(self) -> tuple[str, dict[str, Any]]:
        topic, payload, packet_id = self.message()
        if packet_id:
            self.send(b"\x40\x02" + struct.pack(">H", packet_id))
        return topic, json.loads(payload)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def packet(first: int, body: bytes) -> bytes:
    length, digits = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        digits += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([first]) + digits + body


def connect(
    client_id: str,
    username: str,
    password: str | None,
    *,
    keepalive_s: int = 60,
    clean: bool = True,
    protocol: bytes = b"\x00\x04MQTT\x04",
    will: tuple[str, str] | None = None,
) -> bytes:
    """Without a password its flag is not set either."""
    flags = 0x80 | (0x40 if password is not None else 0) | (2 if clean else 0)
    flags |= 4 if will else 0
    head = protocol + bytes([flags]) + struct.pack(">H", keepalive_s)
    said = [client_id, *(will or ()), username, *([] if password is None else [password])]
    return packet(0x10, head + b"".join(map(text, said)))


def sign(method: str, key: str, content: str) -> str:
    """The vendor's signature, by its formula and nothing of the server's."""
    digest = {"hmacmd5": "md5", "hmacsha1": "sha1", "hmacsha256": "sha256"}[method]
    return hmac.new(key.encode(), content.encode(), getattr(hashlib, digest)).hexdigest()


def registration(
    secret: str,
    pk: str,
    dn: str,
    *,
    auth: str = "regnwl",
    method: str = "hmacsha256",
    mode: str = "2",
) -> tuple[str, str, str]:
    """clientId, username and password of a registration."""
    password = sign(method, secret, f"deviceName{dn}productKey{pk}random123")
    client_id = f"{dn}|securemode={mode},authType={auth},random=123,signmethod={method}|"
    return client_id, f"{dn}&{pk}", password


def login(
    secret: str, pk: str, dn: str, *, mode: str = "2", more: str = ""
) -> tuple[str, str, str]:
    """clientId, username and password of a signed login."""
    password = sign("hmacsha256", secret, f"clientIdcid1deviceName{dn}productKey{pk}")
    return f"cid1|securemode={mode},signmethod=hmacsha256{more}|", f"{dn}&{pk}", password


def token_login(push: dict[str, Any]) -> tuple[str, str, str]:
    """clientId, username and password of a login with what a registration pushed."""
    client_id = f"{push['clientId']}|securemode=-2,authType=connwl|"
    return client_id, f"{push['deviceName']}&{push['productKey']}", push["deviceToken"]
