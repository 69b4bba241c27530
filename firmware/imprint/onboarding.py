"""From power-on to telemetry: the one state machine, as a table. Pure.

Its rules:

  1. Power-on is IDENTITY, whatever happened before. No state is stored: each step first looks
     at what is held (identity, link, clock, credential) and is DONE at once if it is there. So
     the machine resumes at every step, after a reset as after a fault.
  2. REGISTER is reached only from CLOCK and only by MISSING: no credential is held. Whoever
     holds one goes by HELD to CONNECT. No fault leads from CONNECT or ONLINE to REGISTER, so a
     dynamic registration is never repeated once its credential is in the vault. (What a hub has
     refused is no credential: Azure's provisioning service may be asked again, and at no cost.)
  3. REGISTER is DONE when the vault has read the credential back, not when the cloud has sent it.
  4. Every state that touches the network can FAIL into WAIT; WAIT has a bounded time with jitter
     (backoff) and leads back to LINK, never straight to where the fault was.
  5. STOP is for what only a person can mend (`retry` of the error is false). HALT has no way out
     but a reset; the REPL stays reachable.
  6. CONNECT may be refused while the vault still has an older credential: ROLLED_BACK tries it
     after WAIT. The caller rolls back at most once a power-on, then STOPs.

`make docs` draws the table for README.md.
"""

# States, as the console names them.
IDENTITY = "IDENTITY"  # read and check what was burned
LINK = "LINK"  # join the network
CLOCK = "CLOCK"  # know the date, without which no certificate can be checked
REGISTER = "REGISTER"  # get a credential from the cloud and keep it
CONNECT = "CONNECT"  # log in with it
ONLINE = "ONLINE"  # report and obey
WAIT = "WAIT"  # let time pass
HALT = "HALT"  # wait for a person

# Events: how a step ended.
DONE = "DONE"  # it has what it is for
HELD = "HELD"  # CLOCK: done, and a credential is held or burned
MISSING = "MISSING"  # CLOCK: done, and a credential has to be asked for
NOT_YET = "NOT_YET"  # REGISTER: the cloud knows this unit and has not enabled it
FAILED = "FAILED"  # an error that passes
STOP = "STOP"  # an error that a person has to mend
ROLLED_BACK = "ROLLED_BACK"  # CONNECT: refused, and the older credential took its place
ELAPSED = "ELAPSED"  # WAIT: the time is over

TRANSITIONS = {
    (IDENTITY, DONE): LINK,
    (IDENTITY, STOP): HALT,
    (LINK, DONE): CLOCK,
    (LINK, FAILED): WAIT,
    (LINK, STOP): HALT,
    (CLOCK, HELD): CONNECT,
    (CLOCK, MISSING): REGISTER,
    (CLOCK, FAILED): WAIT,
    (CLOCK, STOP): HALT,
    (REGISTER, DONE): CONNECT,
    (REGISTER, NOT_YET): WAIT,
    (REGISTER, FAILED): WAIT,
    (REGISTER, STOP): HALT,
    (CONNECT, DONE): ONLINE,
    (CONNECT, ROLLED_BACK): WAIT,
    (CONNECT, FAILED): WAIT,
    (CONNECT, STOP): HALT,
    (ONLINE, FAILED): WAIT,
    (ONLINE, STOP): HALT,
    (WAIT, ELAPSED): LINK,
}


def next_state(state: str, event: str) -> str:
    """Where `event` leads from `state`. KeyError for a pair that is not in the table: a bug."""
    return TRANSITIONS[(state, event)]
