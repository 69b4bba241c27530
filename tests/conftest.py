"""What all tests share."""

import sys

from imprint_tools import runtime

# The firmware imports what is frozen into an ESP32's MicroPython; the tests bring it along.
sys.path.append(str(runtime.umqtt_dir()))
