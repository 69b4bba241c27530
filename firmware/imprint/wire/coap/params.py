"""How long and how often CoAP tries: the numbers of RFC 7252, section 4.8. Pure.

The names are the RFC's, with the unit. What its section 4.8.2 derives is computed here by its
formulas, so that no set of parameters can disagree with itself.
"""


class Parameters:
    """One set; without arguments the RFC's own defaults."""

    def __init__(
        self,
        ACK_TIMEOUT_MS: int = 2_000,
        ACK_RANDOM_FACTOR: float = 1.5,
        MAX_RETRANSMIT: int = 4,
        NSTART: int = 1,
        MAX_LATENCY_MS: int = 100_000,
        TOKEN_BYTES: int = 4,
    ) -> None:
        """TOKEN_BYTES is ours: 4 random bytes keep a stranger from guessing (5.3.1), and where
        DTLS keeps strangers out already, fewer do. ValueError: below what 4.8.1 allows."""
        if (
            ACK_TIMEOUT_MS < 1
            or ACK_RANDOM_FACTOR < 1
            or MAX_RETRANSMIT < 0
            or NSTART < 1
            or not 1 <= TOKEN_BYTES <= 8
        ):
            raise ValueError("RFC 7252, 4.8.1")
        self.ACK_TIMEOUT_MS = ACK_TIMEOUT_MS
        self.ACK_RANDOM_FACTOR = ACK_RANDOM_FACTOR
        self.MAX_RETRANSMIT = MAX_RETRANSMIT
        self.NSTART = NSTART
        self.MAX_LATENCY_MS = MAX_LATENCY_MS
        self.TOKEN_BYTES = TOKEN_BYTES

        # 4.8.2, in its order.
        longest = ACK_TIMEOUT_MS * ACK_RANDOM_FACTOR
        # First transmission of a confirmable message to its last retransmission.
        self.MAX_TRANSMIT_SPAN_MS = int(longest * ((1 << MAX_RETRANSMIT) - 1))
        # PROCESSING_DELAY is ACK_TIMEOUT.
        self.MAX_RTT_MS = 2 * MAX_LATENCY_MS + ACK_TIMEOUT_MS
        # How long a message id of a confirmable message may still turn up.
        self.EXCHANGE_LIFETIME_MS = self.MAX_TRANSMIT_SPAN_MS + self.MAX_RTT_MS
        # And one of a non-confirmable message.
        self.NON_LIFETIME_MS = self.MAX_TRANSMIT_SPAN_MS + MAX_LATENCY_MS


def nb_iot(ack_timeout_s: int = 20) -> Parameters:
    """For NB-IoT over DTLS.

    At the edge of its coverage 10 s one way is what the radio is designed for (3GPP TR 45.820), so
    an answer may take 20 s and a timeout below that would only repeat what is under way. Three
    retransmissions end within 7.5 minutes at most; each costs the battery seconds of sending.
    """
    return Parameters(ACK_TIMEOUT_MS=ack_timeout_s * 1000, MAX_RETRANSMIT=3, TOKEN_BYTES=2)
