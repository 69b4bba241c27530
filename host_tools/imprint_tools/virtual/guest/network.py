"""`network`: the station interface, in front of the bench's virtual access point."""

from _chip import call, take, text

STA_IF = 0
AP_IF = 1
STAT_IDLE = 1000
STAT_CONNECTING = 1001
STAT_GOT_IP = 1010
STAT_BEACON_TIMEOUT = 200
STAT_NO_AP_FOUND = 201
STAT_WRONG_PASSWORD = 202
STAT_ASSOC_FAIL = 203
STAT_HANDSHAKE_TIMEOUT = 204

_NOWHERE = "0.0.0.0"


def hostname(name=None):
    return _setting("hostname", name)


def country(code=None):
    return _setting("country", code)


def _setting(name, value):
    """Read or change a setting that the bench keeps but does not act upon."""
    if value is None:
        return str(take(call(OP_WLAN_GET, 0, 0, name.encode())), "utf8")
    call(OP_WLAN_SET, 0, 0, b"%s=%s" % (name.encode(), str(value).encode()))


class WLAN:
    """The radio. Only the station interface exists; AP_IF is there to be switched off."""

    IF_STA = STA_IF
    IF_AP = AP_IF
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2

    def __init__(self, interface=STA_IF):
        self._interface = interface

    def active(self, on=None):
        if self._interface == AP_IF:
            if on:
                raise OSError("this chip has no soft AP")
            return False
        return bool(call(OP_WLAN_ACTIVE, -1 if on is None else bool(on)))

    def connect(self, ssid=None, key=None, *, bssid=None):
        name = b"" if ssid is None else ssid.encode()
        key = b"" if key is None else key.encode()
        if call(OP_WLAN_CONNECT, ssid is not None, len(name), name + key) < 0:
            raise OSError(text())

    def disconnect(self):
        if call(OP_WLAN_DISCONNECT) < 0:
            raise OSError(text())

    def isconnected(self):
        return call(OP_WLAN_STATUS) == STAT_GOT_IP

    def status(self, what=None):
        if what is None:
            return call(OP_WLAN_STATUS)
        if what != "rssi":
            raise ValueError("unknown status param")
        return -50

    def scan(self):
        n = call(OP_WLAN_SCAN)
        if n < 0:
            raise OSError(text())
        return [(bytes(take(n)), b"\x02\0\0\0\0\x01", 6, -50, 3, False)] if n else []

    def ifconfig(self, fixed=None):
        if fixed is None:
            gateway = self.ipconfig("gw4")
            return self.ipconfig("addr4") + (gateway, gateway)

    def ipconfig(self, what=None, **settings):
        if what is None:
            return None
        up = self.isconnected()
        if what == "addr4":
            return ("192.168.4.2", "255.255.255.0") if up else (_NOWHERE, _NOWHERE)
        if what == "gw4":
            return "192.168.4.1" if up else _NOWHERE
        if what == "has_dhcp4":
            return up
        if what == "dhcp4":
            return True
        raise ValueError("unknown config param")

    def config(self, what=None, **settings):
        if what == "mac":
            return bytes(take(call(OP_UNIQUE_ID)))
        for name, value in settings.items():
            _setting(name, value)
        if what:
            n = call(OP_WLAN_GET, 0, 0, what.encode())
            if n < 0:
                raise ValueError("unknown config param")
            value = str(take(n), "utf8")
            return value if what in ("ssid", "essid", "hostname") else int(value)
