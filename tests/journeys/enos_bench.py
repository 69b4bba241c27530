"""A unit with a cellular modem on its UART 1, and the local EnOS."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imprint_tools import identities
from imprint_tools.identities import Identity
from imprint_tools.localcloud.enos import auth as enos_auth
from imprint_tools.localcloud.enos.cloud import EnosCloud, EnosConfig
from imprint_tools.secret import Secret
from imprint_tools.virtual.board import Board
from imprint_tools.virtual.modem.bench import Modem
from imprint_tools.virtual.modem.cellular import Cell
from journey_bench import UnitBench

DEVICE = "unit-1"
APN = "iot.example"
HEAP = "64k"

DIALECTS = {
    "nrf91": "nrf91",
    "nrf91-slm": "nrf91",
    "bg95": "bg95",
    "gm02s": "sequans",
    "sara-r5": "sara",
    "sara-r422": "sara",
    "sara-r410": "sara",
}
"""Virtual families, and what an identity calls them."""

SUITES = {"sara-r410": "psk-aes128-cbc-sha256"}
"""What has to be burned where the family's default does not do."""


def of_product(cloud: EnosCloud, product_key: str) -> dict[str, Any]:
    """What is burned into every unit of that product, to be activated, and soon to report."""
    return {
        "journey": "enos-coap",
        "product_key": product_key,
        "product_secret": cloud.product_secret(product_key).reveal().decode(),
        "secure_mode": 3,
        "device_key_source": "burned",
        "device_key": DEVICE,
        "interval_s": 1,
        "ack_timeout_s": 1,
    }


class EnosBench(UnitBench):
    """`family` is the modem's, `modem` what else it is made with; `heap` is MicroPython's, if
    not HEAP.

    `burned` are fields of the identity that differ from those of a unit that activates itself
    (secure mode 3); None leaves one out.
    """

    cloud: EnosCloud

    def __init__(
        self,
        folder: Path,
        content: bytes,
        *,
        family: str = "nrf91",
        config: EnosConfig | None = None,
        modem: dict[str, Any] | None = None,
        heap: str | None = None,
        **burned: Any,
    ) -> None:
        self.cloud = EnosCloud(folder / "cloud", config)
        self.cloud.start()
        self.product_key = self.cloud.create_product()
        self.secret = self.cloud.create_device(self.product_key, DEVICE).reveal().decode()
        super().__init__(content, Board(folder / "unit", doors=(), heap=heap or HEAP))
        self.modem = Modem(
            family,
            routes=self.cloud.endpoints,
            stream=self.board.uarts.far_end(1),
            **{"boot_s": 0.1, "retransmit_s": (0.2, 2.0), "cell": Cell(attach_s=0.1)}
            | (modem or {}),
        )
        self._family = family
        self._stack = ExitStack()
        self.identity = self.make_identity(**burned)

    def __enter__(self) -> Self:
        super().__enter__()
        self._stack.enter_context(self.modem)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        super().__exit__(kind, error, trace)

    def make_identity(self, **burned: Any) -> Identity:
        """An identity for this cloud, valid by the firmware's own rules."""
        raw = (
            of_product(self.cloud, self.product_key)
            | {
                "host": self.cloud.config.host,
                "modem": DIALECTS[self._family],
                "apn": APN,
                "suite": SUITES.get(self._family),
            }
            | burned
        )
        present = {name: value for name, value in raw.items() if value is not None}
        return identities.check(present, origin="the test", folder=self.cloud.folder)

    def static(self, **burned: Any) -> Identity:
        """The same for a unit whose own secret is burned (secure mode 2)."""
        return self.make_identity(
            secure_mode=2, product_secret=None, device_secret=self.secret, **burned
        )

    def new_unit(self) -> None:
        """Take the power away; a unit as new from the factory, for cloud and modem, too."""
        self.burn(self.identity)
        self.cloud.reset_activation(self.product_key, DEVICE)
        self.modem.stop()
        self.modem.nvm.clear()
        self.modem.start()

    def device(self, key: str = DEVICE) -> dict[str, Any]:
        """What the console of the cloud shows of the device."""
        return next(d for d in self.cloud.devices() if d["device_key"] == key)

    def sessions(self) -> list[dict[str, Any]]:
        """The handshakes that the cloud has finished, oldest first."""
        return self.events("login")

    def keeps_its_secrets(self) -> None:
        """Require that neither console nor the modem's command log has shown a secret."""
        shown = "\n".join([*map(str, self.items), *self.modem.commands])
        product = self.cloud.product_secret(self.product_key)
        for secret in (product, Secret(self.secret)):
            for text in (secret.reveal(), enos_auth.psk(secret).reveal().hex().encode()):
                assert text.decode() not in shown
