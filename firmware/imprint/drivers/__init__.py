"""Drivers of sub-devices: how a gateway reads what is behind it.

A driver serves all the sub-devices of one table, so that two hundred of a kind cost one object.
It is a module of this package with a class `Driver`:

    Driver(points, bus, feed)      `points` are the words of the table's line behind the driver's
                                   name, `bus` the list's keywords of machine.UART, `feed` the
                                   watchdog's; SetupError: it cannot read the words
    poll(address) -> dict          measurepoints and values; bounded; an ImprintError of 25x says
                                   why there are none

and, as it likes,

    command(address, name, params) -> dict
                                   do a service of the thing model, "set" for measurepoints, and
                                   give its outputs; KeyError: it has no such thing, ValueError and
                                   TypeError: the parameters are odd
    event(address)                 what happened at a device since, when it has just been polled:
                                   (identifier, fields) of the thing model, or None
    attributes(address) -> dict    what describes it; asked for when it has come online
    tags(address) -> dict          the same
"""
