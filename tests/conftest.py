"""What all tests share."""

import signal
import sys
from importlib.util import find_spec

import pytest
from hypothesis import settings
from imprint_tools import runtime

settings.register_profile("imprint", deadline=None)  # the machine may be busy with other tests
settings.load_profile("imprint")

# In the background of a shell Ctrl-C is ignored, and what is started from there inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The firmware imports what is frozen into an ESP32's MicroPython; the tests bring it along.
sys.path.append(str(runtime.umqtt_dir()))

# DTLS on the host needs a library that has no build for every Python (imprint_tools/mbedtls.py):
# without it there is no virtual modem and no local EnOS to test.
if find_spec("mbedtls") is None:
    collect_ignore_glob = ["*/*dtls*", "*/*enos*", "*/*modem_dialects*", "*/*virtual_modem*"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--port", help="the serial port of the board that `-m hardware` is to try")
