"""A secret that cannot be printed by accident."""

from __future__ import annotations

import hashlib


class Secret:
    """Bytes that show themselves only as a fingerprint.

    `repr`, `str` and formatting give `sha256:` and eight hex digits; `reveal()` is the only way
    in, so that every use is easy to find. Not a subclass of bytes: nothing may concatenate it.
    """

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    @property
    def fingerprint(self) -> str:
        """`sha256:` and the first eight hex digits of the digest."""
        return "sha256:" + hashlib.sha256(self._value).hexdigest()[:8]

    def __repr__(self) -> str:
        return f"<Secret {self.fingerprint}>"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)
