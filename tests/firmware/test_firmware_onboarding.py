"""The table of first power-on and reconnect keeps its own rules."""

import unittest

from imprint import onboarding as o

_STATES = (o.IDENTITY, o.LINK, o.CLOCK, o.REGISTER, o.CONNECT, o.ONLINE, o.WAIT, o.HALT)
_NETWORK = (o.LINK, o.CLOCK, o.REGISTER, o.CONNECT, o.ONLINE)


def _reach(start, without=()):
    # Every state that can be reached from `start`, not going through `without`.
    seen = [start]
    for state in seen:
        for pair in o.TRANSITIONS:
            after = o.TRANSITIONS[pair]
            if pair[0] == state and after not in seen and after not in without:
                seen.append(after)
    return seen


class TestTable(unittest.TestCase):
    def test_first_power_on(self):
        """A blank unit registers once, and comes online."""
        state = o.IDENTITY
        for event, expected in (
            (o.DONE, o.LINK),
            (o.DONE, o.CLOCK),
            (o.MISSING, o.REGISTER),
            (o.DONE, o.CONNECT),
            (o.DONE, o.ONLINE),
        ):
            state = o.next_state(state, event)
            self.assertEqual(expected, state)

    def test_every_later_power_on(self):
        """A unit that holds a credential passes by REGISTER."""
        state = o.IDENTITY
        for event in (o.DONE, o.DONE, o.HELD, o.DONE):
            state = o.next_state(state, event)
            self.assertNotEqual(o.REGISTER, state)
        self.assertEqual(o.ONLINE, state)

    def test_only_known_states(self):
        """The table names all the states and no other."""
        named = set([pair[0] for pair in o.TRANSITIONS] + list(o.TRANSITIONS.values()))
        self.assertEqual(set(_STATES), named)

    def test_all_reachable(self):
        """Every state is reached from power-on."""
        self.assertEqual(set(_STATES), set(_reach(o.IDENTITY)))

    def test_registration_only_when_missing(self):
        """REGISTER has one way in: no credential is held."""
        into = [pair for pair in o.TRANSITIONS if o.TRANSITIONS[pair] == o.REGISTER]
        self.assertEqual([(o.CLOCK, o.MISSING)], into)

    def test_network_faults_wait(self):
        """What touches the network can fail, and then waits; WAIT leads to LINK only."""
        for state in _NETWORK:
            self.assertEqual(o.WAIT, o.next_state(state, o.FAILED))
            self.assertEqual(o.HALT, o.next_state(state, o.STOP))
        out = [pair for pair in o.TRANSITIONS if pair[0] == o.WAIT]
        self.assertEqual([(o.WAIT, o.ELAPSED)], out)
        self.assertEqual(o.LINK, o.next_state(o.WAIT, o.ELAPSED))

    def test_no_loop_without_waiting(self):
        """Every way back goes through WAIT: the cloud is never hammered."""
        for state in _STATES:
            if state == o.WAIT:
                continue
            for pair in o.TRANSITIONS:
                if pair[0] == state and o.TRANSITIONS[pair] != o.WAIT:
                    self.assertNotIn(state, _reach(o.TRANSITIONS[pair], without=(o.WAIT,)))

    def test_halt_is_final(self):
        """Nothing but a reset leaves HALT."""
        self.assertEqual([o.HALT], _reach(o.HALT))

    def test_online_from_everywhere(self):
        """From every state but HALT there is a way to ONLINE."""
        for state in _STATES:
            if state != o.HALT:
                self.assertIn(o.ONLINE, _reach(state))

    def test_not_yet(self):
        """A unit that its cloud has not enabled waits, and asks again: nobody has to reset it."""
        self.assertEqual(o.WAIT, o.next_state(o.REGISTER, o.NOT_YET))
        self.assertIn(o.REGISTER, _reach(o.WAIT))

    def test_rolled_back(self):
        """An older credential is tried after a pause, without registering."""
        self.assertEqual(o.WAIT, o.next_state(o.CONNECT, o.ROLLED_BACK))

    def test_a_bug_is_loud(self):
        """A pair that is not in the table is a KeyError."""
        with self.assertRaises(KeyError):
            o.next_state(o.HALT, o.DONE)
