"""What can go wrong on the host, whose fault it is, and what to do next.

Every expected failure is an :class:`ImprintError`. It carries a stable `code` (for scripts and
`--json`), an `exit_code` (the process's exit status, one a class) and a `next_step` (what the
person at the bench does now). Anything else that escapes a command is a bug and keeps its
traceback.

    ImprintError
      caller's mistake     IdentityError 10, BoardFileError 11, FirmwareFileError 12,
                           ImageError 13, IssueError 14, AuthorityError 15,
                           TrustAnchorError 16
      the board's          PortError 20, ChipMismatchError 21, FlashError 22, DeviceError 23,
                           VerifyError 24
      the world's weather  RuntimeMissingError 30, FetchError 31
      the bench's          BenchStateError 40, JourneyFailedError 41
      the factory's        ServiceError 50, ServiceUnavailableError 51, LedgerError 52,
                           StationError 53, ClockSkewError 54

Exit status 0 is success, 1 a bug, 2 wrong usage (click's own), 130 Ctrl-C. 60 to 79 are what
`imprint gateway check` finds (chain_check.CAUSES): a finding is its result, and no error.
"""

from __future__ import annotations


class ImprintError(Exception):
    """An expected failure. `message` says what happened and why; it never holds a secret.

    A class has a next step of its own, for where nothing better is known.
    """

    code = "imprint"
    exit_code = 1
    next_step = ""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        if next_step:
            self.next_step = next_step


class IdentityError(ImprintError):
    """An identity is missing a field, breaks a rule, or stands twice in a batch."""

    code = "identity-invalid"
    exit_code = 10
    next_step = "Correct the identity; the page of its journey in docs/ lists the fields."


class BoardFileError(ImprintError):
    """A board's TOML or a partition table is wrong (unknown key, overlap, outside the flash)."""

    code = "board-file-invalid"
    exit_code = 11
    next_step = "Correct it; boards/README.md and boards/schema.json say what it may hold."


class FirmwareFileError(ImprintError):
    """A MicroPython .bin is truncated, foreign, for another chip, or not of the named hash."""

    code = "firmware-file-invalid"
    exit_code = 12
    next_step = "Download MicroPython's .bin for this chip again."


class ImageError(ImprintError):
    """An image cannot be built (does not fit its partition, a file does not compile)."""

    code = "image-invalid"
    exit_code = 13
    next_step = "Correct what is named; `imprint image --help` says what it takes."


class IssueError(ImprintError):
    """A certificate is not issued: a name, a lifetime or a request breaks a rule."""

    code = "certificate-refused"
    exit_code = 14
    next_step = "Correct what is named; nothing was issued."


class AuthorityError(ImprintError):
    """An authority's folder is absent, taken or damaged, or the passphrase does not open it."""

    code = "authority-unusable"
    exit_code = 15
    next_step = "Name the authority's folder; `imprint ca root` makes one."


class TrustAnchorError(ImprintError):
    """A file that should hold a CA's certificate does not, or the CA cannot be installed."""

    code = "trust-anchor-invalid"
    exit_code = 16
    next_step = "Give the CA's own certificate, PEM or DER."


class PortError(ImprintError):
    """The serial port is absent, busy, or fell silent."""

    code = "port-unavailable"
    exit_code = 20
    next_step = "Check the cable; `python -m serial.tools.list_ports` lists the ports."


class ChipMismatchError(ImprintError):
    """The chip on the port is not the one the board's TOML names."""

    code = "chip-mismatch"
    exit_code = 21
    next_step = "Name the board that this is with --board."


class FlashError(ImprintError):
    """The board refused a write, or what was read back differs."""

    code = "flash-failed"
    exit_code = 22
    next_step = "Flash again, with a lower --baud if it repeats."


class DeviceError(ImprintError):
    """MicroPython on the board raised, or does not answer at its REPL."""

    code = "device-error"
    exit_code = 23
    next_step = "Reset the board and try again; if it repeats, flash it: imprint flash."


class VerifyError(ImprintError):
    """What is on the board is not what should be there."""

    code = "verify-mismatch"
    exit_code = 24
    next_step = "Write it again: imprint flash for files, imprint inject for the identity."


class RuntimeMissingError(ImprintError):
    """The MicroPython runtime for the host is not there and cannot be installed as things are."""

    code = "runtime-missing"
    exit_code = 30
    next_step = "imprint runtime install"


class FetchError(ImprintError):
    """A download failed."""

    code = "fetch-failed"
    exit_code = 31
    next_step = "Check the network and try again."


class BenchStateError(ImprintError):
    """A virtual board or local cloud is not in the state that the command needs."""

    code = "bench-state"
    exit_code = 40
    next_step = "Look at `imprint board list`, and at the logs in its folder."


class JourneyFailedError(ImprintError):
    """A demo's journey ended without telemetry acknowledged by the cloud."""

    code = "journey-failed"
    exit_code = 41
    next_step = "Look at the board's console: imprint demo --keep."


class ServiceError(ImprintError):
    """A cloud's control plane refused a request, or could not be told what to do."""

    code = "service-refused"
    exit_code = 50
    next_step = "Correct what is named; the policy's key and its rights are the usual suspects."

    status = 0
    """The HTTP status; 0 where nothing was sent."""
    error_code = 0
    """The service's own code, if it gave one."""


class ServiceUnavailableError(ImprintError):
    """A cloud's control plane did not answer, failed or throttled for longer than one waits."""

    code = "service-unavailable"
    exit_code = 51
    next_step = "Check the network and the service's state, then try again."


class LedgerError(ImprintError):
    """The factory's ledger cannot be opened, or what was asked contradicts it."""

    code = "ledger-refused"
    exit_code = 52
    next_step = "Look at what the ledger has: imprint factory station list."


class StationError(ImprintError):
    """The factory server refused this station, or did not finish a unit in time."""

    code = "station-refused"
    exit_code = 53
    next_step = "Check the station's token; `imprint factory station list` shows what is revoked."


class ClockSkewError(ServiceError):
    """A cloud's control plane refused a request because this computer's clock is wrong."""

    code = "clock-skew"
    exit_code = 54
    next_step = "Set this computer's clock, then try again."
