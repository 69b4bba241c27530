"""Two CoAP ends in one memory: a server that answers as told, and a path that loses, duplicates
and reorders. The clock is turned by hand. Runs on CPython and on MicroPython.
"""

from imprint import ticks
from imprint.wire.coap.codes import ACK, CON, EMPTY, NON, POST, RST
from imprint.wire.coap.exchange import Exchange
from imprint.wire.coap.message import Message, decode


class Chance:
    """Numbers that look like chance and are the same in each run."""

    def __init__(self, seed):
        self._state = seed * 7919 + 1

    def __call__(self, n):
        return bytes([self.below(256) for _ in range(n)])

    def below(self, limit):
        self._state = (self._state * 1103515245 + 12345) & 0x3FFFFFFF
        return (self._state >> 8) % limit


class Server:
    """Answers `b"=" + payload` once a request, however often it hears it.

    `manner`: "piggybacked", "separate" (empty ACK, then a CON that is repeated until it is
    acknowledged), "hasty" (the CON and never an ACK) or "non" (empty ACK, then a NON).
    """

    RETRY_MS = 3000
    RETRIES = 6

    def __init__(self, manner, think_ms=500):
        self.manner = manner
        self.executed = []  # payloads, once for each execution
        self.acknowledged = 0
        self.rejected = 0
        self._think_ms = think_ms
        self._answers = {}  # message id of a request -> datagram that a duplicate gets, or None
        self._unacked = {}  # message id of ours -> [due, datagram, tries left]
        self._next_id = 0x4000

    def receive(self, datagram, now):
        """The datagrams to send at once."""
        message = decode(datagram)
        if message.kind in (ACK, RST):
            if self._unacked.pop(message.message_id, None):
                self.acknowledged += message.kind == ACK
                self.rejected += message.kind == RST
            return []
        known = self._answers
        if message.message_id in known:
            answer = known[message.message_id]
            return [answer] if answer else []
        self.executed.append(message.payload)
        answer = Message(0x44, b"=" + message.payload, ACK)
        answer.token = message.token
        at_once = None
        if self.manner == "piggybacked" and message.kind == CON:
            answer.message_id = message.message_id
            at_once = answer.encode()
        else:
            answer.kind = NON if self.manner == "non" else CON
            answer.message_id = self._next_id
            self._next_id += 1
            tries = self.RETRIES if answer.kind == CON else 1
            due = ticks.add(now, self._think_ms)
            self._unacked[answer.message_id] = [due, answer.encode(), tries]
            if self.manner != "hasty" and message.kind == CON:
                empty = Message(EMPTY, b"", ACK)
                empty.message_id = message.message_id
                at_once = empty.encode()
        known[message.message_id] = at_once
        return [at_once] if at_once else []

    def due(self, now):
        """The datagrams whose time has come."""
        found = []
        for message_id in list(self._unacked):
            entry = self._unacked[message_id]
            if ticks.diff(entry[0], now) <= 0:
                found.append(entry[1])
                entry[0] = ticks.add(now, self.RETRY_MS)
                entry[2] -= 1
                if not entry[2]:
                    del self._unacked[message_id]
        return found

    def next_timeout(self, now):
        left = [ticks.diff(entry[0], now) for entry in self._unacked.values()]
        return max(0, min(left)) if left else None


class Bench:
    """A client's exchange and a server, joined by a path. Percentages of each datagram."""

    def __init__(
        self, parameters, server, seed=1, loss=0, twice=0, latency_ms=(100, 100), start=0
    ):
        self.now = start
        self.chance = Chance(seed)
        self.client = Exchange(parameters, self.chance)
        self.server = server
        self.sent = 0  # datagrams of the client
        self._loss = loss
        self._twice = twice
        self._latency_ms = latency_ms
        self._flying = []  # (arrival, to the server?, datagram)

    def ask(self, payload, kind=CON):
        """The response's payload; raises what the exchange raises."""
        token = self.client.request(Message(POST, payload, kind), self.now)
        for _ in range(2000):
            self.settle()
            response = self.client.response(token)
            if response:
                return response.payload
            self.turn()
        raise AssertionError("no end")

    def settle(self):
        """Let both ends say what they have to say now."""
        self.client.handle_timer(self.now)
        while True:
            datagram = self.client.to_send(self.now)
            if datagram is None:
                break
            self.sent += 1
            self._fly(True, datagram)
        for datagram in self.server.due(self.now):
            self._fly(False, datagram)

    def turn(self):
        """Turn the clock to what happens next; False when nothing will."""
        times = [ticks.diff(entry[0], self.now) for entry in self._flying]
        times += [
            left
            for left in (self.client.next_timeout(self.now), self.server.next_timeout(self.now))
            if left is not None
        ]
        if not times:
            return False
        self.now = ticks.add(self.now, max(0, min(times)))
        arrived = [entry for entry in self._flying if ticks.diff(entry[0], self.now) <= 0]
        self._flying = [entry for entry in self._flying if ticks.diff(entry[0], self.now) > 0]
        for _, up, datagram in arrived:
            if up:
                for answer in self.server.receive(datagram, self.now):
                    self._fly(False, answer)
            else:
                self.client.receive(datagram, self.now)
        return True

    def calm(self):
        """Until nothing flies and nobody waits."""
        for _ in range(2000):
            self.settle()
            if not self.turn():
                return
        raise AssertionError("no end")

    def _fly(self, up, datagram):
        for _ in range(1 + (self.chance.below(100) < self._twice)):
            if self.chance.below(100) >= self._loss:
                least, most = self._latency_ms
                delay = least + self.chance.below(most - least + 1)
                self._flying.append((ticks.add(self.now, delay), up, datagram))
