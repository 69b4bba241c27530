"""What all tests share."""

import sys

import pytest
from imprint_tools import runtime

# The firmware imports what is frozen into an ESP32's MicroPython; the tests bring it along.
sys.path.append(str(runtime.umqtt_dir()))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--port", help="the serial port of the board that `-m hardware` is to try")
