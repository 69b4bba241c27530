"""The little that a board reads of a certificate: its dates and whose key it has. Pure.

DER as X.690 has it, certificates as RFC 5280, requests as RFC 2986. That a certificate is to be
trusted is not decided here but by TLS, at the server.
"""

import binascii

_SEQUENCE = 0x30
_EXPLICIT = 0xA0  # [0], a certificate's version
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18

_REQUEST = "CERTIFICATE REQUEST"
_CERTIFICATE = "CERTIFICATE"


def from_pem(text: str) -> bytes:
    """The first certificate in `text`, which may have its issuers after it. ValueError: none."""
    begin, end = "-----BEGIN %s-----" % _CERTIFICATE, "-----END %s-----" % _CERTIFICATE
    at = text.find(begin)
    to = text.find(end, at + 1)
    if at < 0 or to < 0:
        raise ValueError("no certificate")
    data = binascii.a2b_base64("".join(text[at + len(begin) : to].split()))
    if not data or _walk(data, 0)[2] != len(data):
        raise ValueError("not DER")
    return data


def to_pem(request: bytes) -> str:
    """A request as text."""
    text = binascii.b2a_base64(request).decode().strip()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "-----BEGIN %s-----\n%s\n-----END %s-----\n" % (_REQUEST, "\n".join(lines), _REQUEST)


def validity(certificate: bytes) -> tuple:
    """(first, last) second of its validity, since 1970. ValueError: that is no certificate."""
    _, at, _ = _within(certificate, 0, _SEQUENCE)
    _, at, _ = _within(certificate, at, _SEQUENCE)  # TBSCertificate
    if certificate[at] == _EXPLICIT:
        at = _walk(certificate, at)[2]
    for _ in range(3):  # serial number, signature algorithm, issuer
        at = _walk(certificate, at)[2]
    _, at, _ = _within(certificate, at, _SEQUENCE)
    first, at = _time(certificate, at)
    return first, _time(certificate, at)[0]


def is_for(certificate: bytes, request: bytes) -> bool:
    """Whether the certificate has the public key of that request. ValueError: that is none."""
    _, at, _ = _within(request, 0, _SEQUENCE)
    _, at, _ = _within(request, at, _SEQUENCE)  # CertificationRequestInfo
    for _ in range(2):  # version, subject
        at = _walk(request, at)[2]
    return request[at : _walk(request, at)[2]] in certificate


def _walk(data: bytes, at: int) -> tuple:
    # (tag, where its content begins, where it ends). ValueError: it does not fit into the data.
    if at + 2 > len(data):
        raise ValueError("cut short")
    tag, size = data[at], data[at + 1]
    at += 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 2 or at + count > len(data):
            raise ValueError("length")
        size = int.from_bytes(data[at : at + count], "big")
        at += count
    if at + size > len(data):
        raise ValueError("cut short")
    return tag, at, at + size


def _within(data: bytes, at: int, tag: int) -> tuple:
    found = _walk(data, at)
    if found[0] != tag:
        raise ValueError("tag")
    return found


def _time(data: bytes, at: int) -> tuple:
    # (seconds since 1970, where it ends)
    tag, at, end = _walk(data, at)
    text = str(data[at:end], "ascii")
    if tag == _UTC_TIME:  # RFC 5280: 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("time")
    if len(text) != 15 or text[14] != "Z" or text[:14].strip("0123456789"):
        raise ValueError("time")
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    clock = int(text[8:10]) * 3600 + int(text[10:12]) * 60 + int(text[12:14])
    return days(year, month, day) * 86400 + clock, end


def days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to that one, by the Gregorian calendar."""
    # A year begins in March here, so that the odd day of a leap year is its last.
    if month < 3:
        year, month = year - 1, month + 12
    leaps = year // 4 - year // 100 + year // 400
    return 365 * year + leaps + (153 * month - 457) // 5 + day - 719469
