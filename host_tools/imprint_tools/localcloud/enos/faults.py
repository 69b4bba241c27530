"""What the local EnOS can be told to do wrong, so that a device's answer to it can be tested."""

from __future__ import annotations

from dataclasses import dataclass

from imprint_tools.localcloud.faults import Faults


@dataclass
class EnosFaults(Faults):
    """Counters of misbehaviour to come, of CoAP, then of MQTT (besides those of every broker) and
    of REST; set them at run time, from any thread.

    The two of `drop_…_after` lose one datagram, the n-th from now (1 is the next one); the others
    spoil the next n.
    """

    drop_up_after: int = 0
    """The n-th datagram that comes is lost."""
    drop_down_after: int = 0
    """The n-th datagram that is sent is lost."""
    deaf: int = 0
    """A datagram that comes is lost, whatever it is: as if no server were there."""
    no_suite: int = 0
    """A handshake in which the server wants a suite that no device has."""
    silent: int = 0
    """A request is read and never answered."""
    server_error: int = 0
    """5.00, and nothing done."""
    wrong_token: int = 0
    """The answer has another request's token."""
    truncated_json: int = 0
    """Half of the answer's payload."""
    other_device: int = 0
    """The answer is another device's: its keys in an activation, its message id in a reply."""
    other_id: int = 0
    """The reply to an MQTT request, or to an activation by one, is another request's."""
    half_batch: int = 0
    """Of a batch, the second half is refused."""
    half_reply: int = 0
    """Half of an MQTT reply's payload."""
    api_error: int = 0
    """503, and nothing done."""
    api_silent: int = 0
    """A REST request is read and never answered; nothing done."""
    api_garbage: int = 0
    """A REST request is answered with what is not JSON, after it was done."""
    token_expires: int = 0
    """The token that a REST call brings ends with it."""

    def reaches_one(self, name: str) -> bool:
        """Counts down, and says whether that was the last step."""
        return self.take(name) and getattr(self, name) == 0
