"""A virtual cellular modem: a family's AT dialect over bytes, a network around it, real DTLS.

    bytes <-> Terminal <-> Core + the family's commands <-> Radio (SIM, cell, PSM)
                                                        <-> Socket <-> Dtls <-> Air <-> UDP

`bench.Modem` puts them together and runs them in a thread of its own.
"""
