"""The numbers of RFC 7252, section 4.8, and what its formulas make of them."""

import unittest

from imprint.wire.coap.params import Parameters, nb_iot


class TestParameters(unittest.TestCase):
    def test_defaults(self):
        """Without arguments, the table of 4.8 and the derived values that 4.8.2 prints."""
        p = Parameters()
        self.assertEqual(
            (2000, 1.5, 4, 1), (p.ACK_TIMEOUT_MS, p.ACK_RANDOM_FACTOR, p.MAX_RETRANSMIT, p.NSTART)
        )
        self.assertEqual(45_000, p.MAX_TRANSMIT_SPAN_MS)
        self.assertEqual(100_000, p.MAX_LATENCY_MS)
        self.assertEqual(202_000, p.MAX_RTT_MS)
        self.assertEqual(247_000, p.EXCHANGE_LIFETIME_MS)
        self.assertEqual(145_000, p.NON_LIFETIME_MS)

    def test_nb_iot(self):
        """An answer that is 10 s under way each way comes before the first retransmission."""
        p = nb_iot()
        self.assertTrue(p.ACK_TIMEOUT_MS >= 2 * 10_000)
        self.assertEqual(210_000 + 200_000 + 20_000, p.EXCHANGE_LIFETIME_MS)

    def test_limits(self):
        """What 4.8.1 rules out, and a token that CoAP has no room for, is refused."""
        for changes in (
            {"ACK_TIMEOUT_MS": 0},
            {"ACK_RANDOM_FACTOR": 0.9},
            {"MAX_RETRANSMIT": -1},
            {"NSTART": 0},
            {"TOKEN_BYTES": 0},
            {"TOKEN_BYTES": 9},
        ):
            with self.subTest(str(changes)), self.assertRaises(ValueError):
                Parameters(**changes)
