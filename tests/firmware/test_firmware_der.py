"""What a board reads of a certificate: its dates, whose key, and that nonsense is none."""

import binascii
import unittest

from imprint.wire import der


def _tlv(tag, *contents):
    body = b"".join(contents)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    if size < 256:
        return bytes([tag, 0x81, size]) + body
    return bytes([tag, 0x82, size >> 8, size & 0xFF]) + body


_KEY = _tlv(0x30, _tlv(0x30, b"\x06\x01\x2a"), _tlv(0x03, b"\0" + b"k" * 64))
_NAME = _tlv(0x30, b"name")


def _certificate(first=b"\x17\x0d260101000000Z", last=b"\x18\x0f20360229235959Z", key=_KEY):
    version, serial, algorithm = b"\xa0\x03\x02\x01\x02", b"\x02\x01\x05", _tlv(0x30, b"\x06\x01")
    body = _tlv(0x30, version, serial, algorithm, _NAME, _tlv(0x30, first, last), _NAME, key)
    return _tlv(0x30, body, algorithm, _tlv(0x03, b"\0" + b"s" * 70))


def _request(key=_KEY):
    return _tlv(0x30, _tlv(0x30, b"\x02\x01\0", _NAME, key), _tlv(0x30), _tlv(0x03, b"\0"))


class TestCertificates(unittest.TestCase):
    def test_validity(self):
        """Both forms of a date, of this century and the last."""
        # 2026-01-01 and 2036-02-29 23:59:59, by `date -u +%s`
        self.assertEqual((1767225600, 2087942399), der.validity(_certificate()))
        old = _certificate(first=b"\x17\x0d700101000001Z")
        self.assertEqual(1, der.validity(old)[0])

    def test_days(self):
        """The Gregorian calendar, leap years and their exceptions."""
        for date, days in (
            ((1970, 1, 1), 0), ((2000, 2, 29), 11016), ((2000, 3, 1), 11017),
            ((2100, 3, 1), 47541), ((1999, 12, 31), 10956),
        ):  # fmt: skip
            self.assertEqual(days, der.days(*date))

    def test_whose(self):
        """A certificate is for the key of the request, or it is another's."""
        self.assertTrue(der.is_for(_certificate(), _request()))
        other = _tlv(0x30, _tlv(0x30, b"\x06\x01\x2a"), _tlv(0x03, b"\0" + b"K" * 64))
        self.assertFalse(der.is_for(_certificate(), _request(other)))

    def test_pem(self):
        """The first certificate of a text, with what stands around it."""
        made = _certificate()
        text = binascii.b2a_base64(made).decode()
        lines = "\n".join([text[at : at + 64] for at in range(0, len(text), 64)])
        pem = "-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % lines
        self.assertEqual(made, der.from_pem("subject\n" + pem + pem))
        self.assertEqual(made, der.from_pem(pem.replace("\n", "\r\n")))
        request = der.to_pem(_request())
        self.assertTrue(request.startswith("-----BEGIN CERTIFICATE REQUEST-----\n"))
        self.assertTrue(max([len(line) for line in request.split("\n")]) <= 64)

    def test_damaged(self):
        """Every certificate that is cut short, and every odd date, is none."""
        made = _certificate()
        for damaged in [made[:size] for size in range(len(made))] + [
            _certificate(first=b"\x17\x0d2601010000zzZ"),
            _certificate(first=b"\x17\x0c260101000000"),
            _certificate(first=b"\x16\x0d260101000000Z"),
            b"\x30\x83\0\0\1", b"\x31\x00",
        ]:  # fmt: skip
            try:
                der.validity(damaged)
            except (ValueError, IndexError):
                continue
            self.fail(damaged)
        for text in ("", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n"
                     "-----END CERTIFICATE-----"):  # fmt: skip
            try:
                der.from_pem(text)
            except ValueError:
                continue
            self.fail(text)


if __name__ == "__main__":
    unittest.main()
