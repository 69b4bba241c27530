"""The virtual board: an ESP32 whose only stand-in is the silicon."""
