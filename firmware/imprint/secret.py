"""A secret that cannot be printed by accident. Pure."""

import binascii
import hashlib


class Secret:
    """Bytes that show themselves only as a fingerprint.

    `repr`, `str`, `%s` and `{}` all give `sha256:` and eight hex digits, as the host's tools do,
    so that both ends can be compared. `reveal()` is the only way in, and easy to find.
    """

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        digest = binascii.hexlify(hashlib.sha256(self._value).digest()).decode()
        return "<Secret sha256:%s>" % digest[:8]
