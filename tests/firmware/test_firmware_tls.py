"""What a refused server is called, and the name that its certificate must have."""

import sys
import unittest
from binascii import unhexlify

from imprint.errors import ProtocolError, SetupError, WeatherError
from imprint.net import tls

_SAN = unhexlify("30130603551d11040c300a820867772e6c6f63616c")
_BASIC = unhexlify("300c0603551d130101ff04023000")

# What mbedTLS 3.6 raises through MicroPython 1.25, and our name for it.
_RAISED = (
    (ValueError("\nThe certificate validity has expired\n"), ProtocolError, 310),
    (ValueError("\nThe certificate validity starts in the future\n"), ProtocolError, 310),
    (
        ValueError("The certificate Common Name (CN) does not match with the expected CN\n"),
        ProtocolError,
        311,
    ),
    (OSError(-311, "X509 - A fatal error occurred"), ProtocolError, 311),
    (
        ValueError("\nThe certificate is not correctly signed by the trusted CA\n"),
        ProtocolError,
        312,
    ),
    (OSError(-31232, "SSL - Processing of the Certificate"), ProtocolError, 314),
    (ValueError("\nUsage does not match the extendedKeyUsage extension\n"), ProtocolError, 314),
    (ValueError("\nThe certificate is signed with an unacceptable key\n"), ProtocolError, 314),
    (ValueError("\nSomething that nobody has met\n"), WeatherError, 313),
    (ValueError(), WeatherError, 313),
    (OSError(-30592, "SSL - A fatal alert message was received"), WeatherError, 313),
    (OSError(104), WeatherError, 304),
    (OSError(), WeatherError, 304),
)


class Explaining(unittest.TestCase):
    def test_each_refusal_has_its_code(self) -> None:
        """And words without an empty line before them."""
        for raised, kind, code in _RAISED:
            told = tls.explain(raised)
            self.assertEqual((type(told), told.code), (kind, code))
            self.assertEqual(told.detail, told.detail.strip())

    def test_the_number_is_kept(self) -> None:
        self.assertEqual(tls.explain(OSError(-30592, "x")).number, -30592)
        self.assertEqual(tls.explain(OSError(104)).number, 104)


class Name(unittest.TestCase):
    def test_a_server_has_an_alternative_name(self) -> None:
        """Wherever the extension stands in the certificate."""
        for der in (_SAN, _BASIC + _SAN, _SAN + _BASIC):
            self.assertEqual(tls._refuse_unnamed(memoryview(der), 0), 0)

    def test_a_server_without_one_is_refused(self) -> None:
        """However long or short what came is; its own code is the number."""
        for der in (b"", b"\x06", _BASIC, _SAN[:7], b"\x06\x03\x55\x1d" * 9):
            self.assertEqual(tls._refuse_unnamed(memoryview(der), 0), -311)

    def test_an_authority_needs_none(self) -> None:
        for depth in (1, 2, 9):
            self.assertEqual(tls._refuse_unnamed(memoryview(_BASIC), depth), 0)

    def test_looking_makes_no_copy(self) -> None:
        """The certificate comes when heap is shortest: at the height of the handshake."""
        if sys.implementation.name != "micropython":
            return
        import gc

        view = memoryview(bytearray(2000))
        gc.collect()
        gc.disable()
        before = gc.mem_alloc()
        tls._refuse_unnamed(view, 0)
        grown = gc.mem_alloc() - before
        gc.enable()
        self.assertTrue(grown < 200)


class Context(unittest.TestCase):
    def test_what_is_no_certificate_is_refused(self) -> None:
        with self.assertRaises(SetupError):
            tls.context(b"no certificate")
