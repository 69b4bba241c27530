"""How long to wait before trying again. Pure: chance is an argument.

Doubling from a first delay to a ceiling, with "equal jitter": one half is sure, the other is
chance, so that a thousand units that lost the same access point do not come back as one.
"""


class Backoff:
    """The delays of one retry loop; all in milliseconds."""

    def __init__(self, rand, first_ms: int, ceiling_ms: int) -> None:
        self._rand = rand  # rand(n) -> n random bytes
        self._first_ms = first_ms
        self._ceiling_ms = ceiling_ms
        self._span_ms = first_ms  # the next delay without its jitter; first_ms to ceiling_ms

    def next_ms(self, retry_after_ms: int | None = None) -> int:
        """The delay before the next attempt: span/2 to span, then the span doubles.

        `retry_after_ms` is what the peer asked for: it is obeyed even above the ceiling, and the
        jitter is added, since the peer may have told everybody the same.
        """
        span, self._span_ms = self._span_ms, min(self._span_ms * 2, self._ceiling_ms)
        half = span // 2
        chance = int.from_bytes(self._rand(4), "big") * (half + 1) >> 32
        return max(half, retry_after_ms or 0) + chance

    def reset(self) -> None:
        """An attempt succeeded: begin at the first delay again."""
        self._span_ms = self._first_ms
