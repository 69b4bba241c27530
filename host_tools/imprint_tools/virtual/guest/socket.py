"""`socket`: real sockets, whose names are resolved by the access point alone."""

import usocket as _host

from _chip import call


def getaddrinfo(host, port, *hints):
    """Raises OSError(-2) for a name that leads nowhere, and for any while the link is down."""
    port = call(OP_RESOLVE, int(port), 0, host.encode())
    if port < 0:
        raise OSError(port)
    return _host.getaddrinfo("127.0.0.1", port, *hints)


def __getattr__(name):
    return getattr(_host, name)
