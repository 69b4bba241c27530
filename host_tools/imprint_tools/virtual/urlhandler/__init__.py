"""pyserial URL handlers; `imprint_tools.ports` tells pyserial to look here."""
