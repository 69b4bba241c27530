"""The application: joins store, link, clock and cloud, and walks the table of `onboarding`.

The only composition root: everything below gets what it needs handed in. An own application is
a module `application` in the file system's root with `read() -> dict` (property identifiers and
values) and, as it likes, of

    apply(params: dict)               take on what the cloud sets. ValueError, TypeError and
                                      KeyError refuse it (400). Azure's twin gets reported what
                                      it returns, a dict, else what `read` then says of those
                                      names; a refusal reports nothing
    hear(payload) -> bytes or None    a message from the cloud; the result is sent back
    method(name: str, value)          Azure's direct methods, services of EnOS's model:
                                      what it returns is the answer (200), KeyError says that
                                      there is no such method (404, EnOS 1101), ValueError and
                                      TypeError refuse the value (400, EnOS 1200)
    properties(values: dict) -> dict  text to go with the report `values`, for a cloud that routes
                                      by it (Azure)
    event() -> (name, fields: dict)   what happened since, one at a time, None at the end; goes
                                      with the next report (EnOS)
    attributes() -> dict              what describes the unit, and text for who looks for it; told
    tags() -> dict                    after each login (EnOS; tags its edge only)
"""

import binascii
import gc
import hashlib
import os
import sys

from micropython import const

from imprint import errors, port
from imprint.backoff import Backoff

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from imprint.identity import Identity
    from imprint.outbox import Outbox

# Longer than DNS, TCP, TLS and one answer can take together, each at its own bound.
_WATCHDOG_MS = const(120_000)
_RETRY_MS = const(1_000)  # first back-off
_RETRY_CEILING_MS = const(300_000)
_UNANSWERED_MS = const(60_000)  # at least, before a registration that may have used a slot
_IDLE_MS = const(250)  # between two looks at the clock and the link
_OUTBOX_MAX = const(64)  # messages
_GC_THRESHOLD = const(1024)  # bytes allocated between collections: garbage must not scatter

# errors.py
_CERTIFICATE_DATE_WRONG = const(310)
_REGISTRATION_UNANSWERED = const(405)
_CLOCK_SKEWED = const(441)
_LOGIN_REFUSED = const(502)
_FORBIDDEN = const(506)
_HUB_REFUSED = const(507)
_DEVICE_DISABLED = const(603)

_DOUBTS_CLOCK = (_CERTIFICATE_DATE_WRONG, _CLOCK_SKEWED, _HUB_REFUSED)

# A message in the outbox: whether it was sent before, its id, its payload.
_SENT = const(1)
_OUTBOX = "/outbox"

# What one step needs and the next does not. It leaves the memory when it has done its part, and
# comes back from flash when it is needed again: a first boot is to fit the smallest heap. A
# journey's cloud adds its own, PASSING. Names below `imprint`, in one string, which is smaller.
_PASSING = "identity modem.cme net.clock net.tls onboarding sign vault "


def run() -> None:
    """Come online and report, until a person has to act; then leave the REPL for an hour."""
    dog = port.Watchdog(_WATCHDOG_MS)
    app = App(dog.feed)
    try:
        app.run()
    finally:
        app.close()
        dog.relax()


class App:
    """What a session uses of it has no underscore: see net/mqtt_session.py."""

    def __init__(self, feed: "Callable[[], None]") -> None:
        """`feed` is the watchdog's; no wait in here is longer than its patience."""
        self.feed = feed
        self.store = port.NvsStore()
        self.application = application = _application()
        self.read = getattr(application, "read", _vital_signs)
        self.apply = getattr(application, "apply", _refuse)
        self.hear = getattr(application, "hear", _ignore)
        self.method = getattr(application, "method", _no_method)
        self.properties = getattr(application, "properties", _no_properties)
        self._backoff = Backoff(os.urandom, _RETRY_MS, _RETRY_CEILING_MS)
        self._identity: "Identity | None" = None
        self._session: "Any" = None  # the journey's kind of session
        self._passing = _PASSING
        self._credential: "dict | None" = None  # what the vault holds
        self._rolled_back = False
        self._error: "errors.ImprintError | None" = None  # what led to WAIT or HALT
        self._fresh: "bytes | None" = None  # the report that is not on flash
        self._outbox: "Outbox | None" = None  # opened when there is something in it
        if port.listdir(_OUTBOX):
            self._box()
        self._sample_at = port.ticks_ms()
        self._hold_until: "int | None" = None  # ticks before which the cloud takes no report
        self._next_id = int.from_bytes(os.urandom(3), "big")

    def run(self) -> None:
        """Walk the table until HALT."""
        port.emit("boot", cause=port.reset_cause(), free=gc.mem_free())
        gc.threshold(_GC_THRESHOLD)
        state = "IDENTITY"
        while state != "HALT":
            self.feed()
            gc.collect()
            port.emit("state", s=state, alloc=gc.mem_alloc())
            try:
                event = {
                    "IDENTITY": self._load_identity,
                    "LINK": self._join,
                    "CLOCK": self._set_clock,
                    "REGISTER": self._register,
                    "CONNECT": self._login,
                    "ONLINE": self._report,
                    "WAIT": self._wait,
                }[state]()
            except errors.ImprintError as error:
                self.close()
                self._error = error
                event = "FAILED" if error.retry else "STOP"
                port.emit_error(error)
            state = _module("imprint.onboarding").next_state(state, event)
            _forget(self._passing)
        port.emit("state", s=state)

    def close(self) -> None:
        """Drop the connection; a report that was under way goes to flash."""
        if self._session:
            self._session.close()
        self._keep()

    def free(self, more: str = "") -> None:
        """Make room, and in one piece, before what takes most of it; `more` names modules of
        `imprint` that are not needed now either."""
        _forget(self._passing + more)
        gc.collect()

    def keep(self, record: dict) -> None:
        """Keep a credential before anything else happens: nothing can fetch it a second time."""
        # Room for the vault first, since running out of memory would lose it, too; that waits for
        # nothing.
        self.free()
        from imprint.vault import Vault

        Vault(self.store).store(record)
        self._credential = record

    # One method a state; each returns the event that ends it. Both have their names from
    # onboarding.py, which is in memory only to be asked where that leads.

    def _load_identity(self) -> str:
        from imprint import identity

        burned = identity.parse(self.store.get("identity"), self._digest, port.unique_id())
        self._identity = burned
        self._passing = _PASSING + identity.module_name(burned.journey) + " "
        del identity
        self.free()
        # By their names: a board carries the journey that it needs in memory, and no other.
        cloud = _module("imprint.clouds." + burned.journey.replace("-", "_"))
        self._passing += cloud.PASSING
        session = _module("imprint.net." + cloud.SESSION)
        self._session = session.Session(burned, cloud, self)
        return "DONE"

    def _join(self) -> str:
        self._session.join()
        return "DONE"

    def _set_clock(self) -> str:
        from imprint.vault import Vault

        if self._session.NEEDS_CLOCK:
            from imprint.net import clock

            # A certificate out of its dates may be a clock that a lying time server set; so may a
            # token that a hub refuses.
            doubted = self._error is not None and self._error.code in _DOUBTS_CLOCK
            clock.ensure(self._identity.ntp_host, self.feed, doubted)
        try:
            self._credential = Vault(self.store).load()
        except errors.SetupError as error:  # the vault is damaged: it may register anew
            port.emit_error(error)
            self._credential = None
        return "HELD" if self._session.fits(self._credential) else "MISSING"

    def _register(self) -> str:
        record = self._session.register()
        if record is None:
            self._error = None
            port.emit("disabled")
            return "NOT_YET"
        self.keep(record)
        port.emit("registered")
        return "DONE"

    def _login(self) -> str:
        try:
            self._session.login(self._credential)
        except errors.SetupError as error:
            if error.code != _LOGIN_REFUSED or self._rolled_back:
                raise
            from imprint.vault import Vault

            if not Vault(self.store).rollback(self._session.fits):
                raise
            self._rolled_back = True
            self.close()
            self._error = error
            port.emit_error(error)
            return "ROLLED_BACK"
        port.emit("online")
        port.emit("heap", alloc=gc.mem_alloc(), free=gc.mem_free())
        return "DONE"

    def _report(self) -> str:
        while True:
            self.feed()
            self._sample_if_due()
            if self._may_send():
                self._send_oldest()
            self._session.poll(_IDLE_MS)

    def _wait(self) -> str:
        error = self._error  # None: the cloud has not enabled us, and there is nobody to report to
        unanswered = error is not None and error.code == _REGISTRATION_UNANSWERED
        floor_ms = max(_UNANSWERED_MS if unanswered else 0, self._session.rest_ms())
        wait_ms = self._backoff.next_ms(floor_ms)
        port.emit("wait", ms=wait_ms)
        until = port.ticks_add(port.ticks_ms(), wait_ms)
        while port.ticks_diff(until, port.ticks_ms()) > 0:
            self.feed()
            if error:
                self._sample_if_due()
                self._keep()
            port.sleep_ms(min(_IDLE_MS, max(0, port.ticks_diff(until, port.ticks_ms()))))
        return "ELAPSED"

    # What they share.

    def _digest(self, name: str) -> "str | None":
        blob = self.store.get(name)
        return binascii.hexlify(hashlib.sha256(blob).digest()).decode() if blob else None

    def _sample_if_due(self) -> None:
        now = port.ticks_ms()
        if self._fresh or port.ticks_diff(now, self._sample_at) < 0:
            return
        if self._session.NEEDS_CLOCK and not port.clock_is_set():
            return  # a report of the year 2000 is worse than none
        self._next_id += 1
        payload = self._session.report(self._next_id, self.read())
        self._sample_at = port.ticks_add(now, self._session.period_ms)
        if payload:
            self._fresh = b"\0" + self._next_id.to_bytes(4, "big") + payload

    def _may_send(self) -> bool:
        if not self._fresh and not self._outbox:
            return False
        if self._hold_until is None:
            return True
        if port.ticks_diff(self._hold_until, port.ticks_ms()) > 0:
            return False
        self._hold_until = None
        return True

    def _send_oldest(self) -> None:
        """Send one report, what waited first, and forget it once the cloud has replied."""
        held = self._outbox.peek() if self._outbox else None
        message = held[1] if held else self._fresh
        if not message:
            return
        number = int.from_bytes(message[1:5], "big")
        again = message[0] == _SENT
        if not held:
            self._fresh = bytes([_SENT]) + message[1:]
        refusal = self._session.send(number, message[5:], again)
        if refusal and refusal.retry:
            wait_ms = self._backoff.next_ms()
            self._hold_until = port.ticks_add(port.ticks_ms(), wait_ms)
            port.emit_error(refusal, wait_ms)
            return
        if refusal and refusal.code in (_DEVICE_DISABLED, _FORBIDDEN):
            raise refusal  # and keep the report: once a person has mended that, it is taken
        if held:
            self._outbox.done(held[0])
        else:
            self._fresh = None
        if refusal:
            port.emit_error(refusal)
        else:
            # Not sooner: what fails right after the login must not begin anew at the first delay.
            self._backoff.reset()
            port.healthy()
            port.emit("reported", id=number, acked=True, kept=len(self._outbox or ()))

    def _keep(self) -> None:
        # The fresh report, to flash. A full file system costs this report, not the unit.
        if self._fresh is None:
            return
        message, self._fresh = self._fresh, None
        box = self._box()
        before = box.dropped
        try:
            box.put(message)
        except errors.SetupError as error:
            port.emit_error(error)
            return
        if box.dropped != before:
            port.emit("dropped", n=box.dropped)

    def _box(self) -> "Outbox":
        if self._outbox is None:
            from imprint.folder import FolderStore
            from imprint.outbox import Outbox

            self._outbox = Outbox(FolderStore(_OUTBOX), _OUTBOX_MAX)
        return self._outbox


def _module(name: str) -> "Any":
    return __import__(name, None, None, ("*",))


def _forget(names: str) -> None:
    # What nothing refers to any more is garbage; a module is referred to by these two.
    for below in names.split():
        module = "imprint." + below
        if module in sys.modules:
            package, _, name = module.rpartition(".")
            del sys.modules[module]
            delattr(sys.modules[package], name)


def _application() -> "Any":
    names = port.listdir("/")
    if "application.py" not in names and "application.mpy" not in names:
        return None
    import application

    return application


def _vital_signs() -> dict:
    return {"uptime_s": port.ticks_ms() // 1000, "heap_free": gc.mem_free()}


def _refuse(_params: dict) -> None:
    raise ValueError


def _ignore(_payload: bytes) -> None:
    pass


def _no_method(name: str, _value: "Any") -> None:
    raise KeyError(name)


def _no_properties(_values: dict) -> dict:
    return {}
