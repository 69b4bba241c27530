"""The demo's world of the journey `enos-coap`: a local EnOS behind a virtual cellular modem."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from imprint_tools import boards, identities
from imprint_tools.demo_world import INTERVAL_S, MakeBoard, Tally, World
from imprint_tools.identities import Identity
from imprint_tools.journey import Party
from imprint_tools.localcloud.enos.cloud import EnosCloud
from imprint_tools.recorder import Recorder
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.modem.air import Weather
from imprint_tools.virtual.modem.bench import Modem
from imprint_tools.virtual.modem.cellular import Cell

KITS = {
    "nrf91": "esp32-nrf9151",
    "bg95": "esp32-bg95",
    "gm02s": "walter-esp32s3-gm02sp",
    "sara-r5": "esp32-sara-r5",
}
"""The virtual modem's family: the kit that has one of it."""

_APN = "iot.example"
_STATIC, _DYNAMIC = 2, 3

# A demo is to be looked on: the modem starts and attaches sooner than a real one, and what is lost
# on an air without latency is sent again sooner than NB-IoT would have it.
_BOOT_S, _ATTACH_S = 0.1, 0.1
_DTLS_RETRANSMIT_S = (0.2, 2.0)
_ACK_TIMEOUT_S = 1

_RECORDS = {20: "DTLS finish", 21: "DTLS alert", 22: "DTLS handshake", 23: "DTLS: CoAP"}
"""By the first byte of a datagram, the content type (RFC 6347, 4.1)."""

BOARD, MODEM, CLOUD = Party.BOARD, Party.MODEM, Party.CLOUD


class EnosWorld(World):
    """`secure_mode` 3 has the unit activate itself, 2 burns its deviceSecret; `loss` is the
    percentage of datagrams that vanish, each way."""

    JOURNEY = "enos-coap"
    NETWORK = MODEM
    HEAP = "64k"
    OPTIONS = ("modem", "secure_mode", "loss")

    # There from the start of each on
    _cloud: EnosCloud
    _modem: Modem

    def __init__(self, recorder: Recorder, *, modem: str, secure_mode: int, loss: float) -> None:
        super().__init__(recorder)
        kit = boards.load(KITS[modem])
        if kit.modem is None:
            raise ValueError(f"{kit.name} has no modem")
        self._port = kit.modem
        self.kit = kit.name
        self.modules = (
            "clouds/enos_coap.py",
            "fields/enos_coap.py",
            "net/coap_session.py",
            f"modem/dialects/{self._port.family}.py",
        )
        self._family, self._secure_mode, self._loss = modem, secure_mode, loss
        self._tally = Tally()

    def start_cloud(self, stack: ExitStack, folder: Path) -> None:
        self._cloud = stack.enter_context(EnosCloud(folder))

    def start_board(self, stack: ExitStack, make: MakeBoard) -> Board:
        board = make()
        modem = Modem(
            self._family,
            routes=self._cloud.endpoints,
            stream=board.uarts.far_end(self._port.uart),
            weather=Weather(loss=self._loss / 100),
            cell=Cell(attach_s=_ATTACH_S),
            boot_s=_BOOT_S,
            retransmit_s=_DTLS_RETRANSMIT_S,
            on_command=self._tell_command,
            on_datagram=self._tell_datagram,
        )
        stack.enter_context(board)
        self._modem = stack.enter_context(modem)
        return board

    def facts(self) -> dict[str, str]:
        return {
            "Cloud": f"Envision EnOS (local), {self._cloud.config.host}",
            "Secure mode": {_STATIC: "2, one device one secret", _DYNAMIC: "3, activation"}[
                self._secure_mode
            ],
            "Modem": f"{self._family} (virtual), IMEI {self._modem.imei}",
            "Datagrams lost": f"{self._loss:g} % each way",
        }

    def identity(self, mac: str) -> Identity:
        cloud = self._cloud
        product_key = cloud.create_product()
        secret = cloud.create_device(product_key, mac)
        name = "device_secret"
        if self._secure_mode == _DYNAMIC:
            name, secret = "product_secret", cloud.product_secret(product_key)
        raw: dict[str, Any] = {
            "journey": self.JOURNEY,
            "product_key": product_key,
            "secure_mode": self._secure_mode,
            "device_key_source": "burned",
            "device_key": mac,
            name: secret.reveal().decode(),
            "host": cloud.config.host,
            "port": cloud.config.device_port,
            "modem": self._port.family,
            "apn": _APN,
            "interval_s": INTERVAL_S,
            "ack_timeout_s": _ACK_TIMEOUT_S,
        }
        return identities.check(raw, origin="the demo", folder=cloud.folder)

    def look_back(self) -> None:
        self.recorder.take_log(self._cloud.events, self._tell_cloud)
        activations = sum(device["activations"] for device in self._cloud.devices())
        air = self._modem.counts
        self.recorder.sample_traffic(air.bytes_up, air.bytes_down)
        self._tally = Tally(
            activations, air.bytes_up, air.bytes_down, air.datagrams_up, air.datagrams_down
        )

    def tally(self) -> Tally:
        return self._tally

    # -- their words ----------------------------------------------------------------------------

    def _tell_command(self, line: str) -> None:
        """A command line, which the modem tells without the secrets in it."""
        self.recorder.say(BOARD, MODEM, line)

    def _tell_datagram(self, up: bool, data: bytes) -> None:
        sender, receiver = (MODEM, CLOUD) if up else (CLOUD, MODEM)
        self.recorder.say(sender, receiver, _RECORDS.get(data[0], "datagram"), len(data))

    def _tell_cloud(self, event: Mapping[str, Any], at_s: float) -> None:
        def note(text: str, size: int | None = None, *, ok: bool = True) -> None:
            self.recorder.say(CLOUD, CLOUD, text, size, ok=ok, at_s=at_s)

        match event["kind"]:
            case "login":
                note(f"session in mode {event['secure_mode']}, {event['suite']}")
            case "handshake-refused":
                note(f"handshake refused: {event['reason']}", ok=False)
            case "activated":
                note("activated: deviceSecret issued")
            case "report":
                good = event["code"] == 200
                if good:
                    self.recorder.acknowledged.add(str(event["id"]))
                note(f"report {event['id']} recorded", event["bytes"], ok=good)
            case "refused":
                note(f"{event['code']}: {event['reason']}", ok=False)
            case "session-end":
                note(f"session over: {event['reason']}")
