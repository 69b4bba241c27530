"""`ntptime`: the time by SNTP (RFC 4330), set into the RTC in UTC."""

import socket
from struct import unpack_from
from time import gmtime

host = "pool.ntp.org"
timeout = 1  # seconds to wait for the answer

# Seconds from the NTP era's 1900-01-01 to the epoch of this port, 2000-01-01
_EPOCH = const(3155673600)


def time():
    """Ask `host`; seconds since the epoch. Raises OSError when no answer comes."""
    packet = bytearray(48)
    packet[0] = 0x1B  # version 3, client
    address = socket.getaddrinfo(host, 123)[0][-1]
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.settimeout(timeout)
        s.sendto(packet, address)
        packet = s.recv(48)
    finally:
        s.close()
    return unpack_from("!I", packet, 40)[0] - _EPOCH


def settime():
    """Set the RTC. Raises OSError when no answer comes."""
    from machine import RTC

    now = gmtime(time())
    RTC().datetime((now[0], now[1], now[2], now[6] + 1, now[3], now[4], now[5], 0))
