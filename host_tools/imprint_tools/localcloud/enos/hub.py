"""The local EnOS's IoT hub as a whole, whichever way its devices come: by CoAP, by MQTT or through
a gateway. What the console and the REST API alike do to a device. Runs in the hub's loop."""

from __future__ import annotations

from pathlib import Path

from imprint_tools.localcloud.enos.certificates import CertificateService
from imprint_tools.localcloud.enos.config import EnosConfig
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.mqtt import EnosMqtt
from imprint_tools.localcloud.enos.platform import EnosPlatform
from imprint_tools.localcloud.enos.port import Clock
from imprint_tools.localcloud.enos.records import Device, Name
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.events import EventLog


class Hub:
    def __init__(
        self,
        registry: EnosRegistry,
        config: EnosConfig,
        log: EventLog,
        faults: EnosFaults,
        clock: Clock,
        folder: Path,
    ) -> None:
        self.certificates = CertificateService(registry, folder, config.inferred)
        self.coap = EnosPlatform(registry, config, log, faults)
        self.mqtt = EnosMqtt(registry, self.certificates, config, log, faults, clock)
        self._registry = registry
        self._log = log

    def online(self, name: Name) -> bool:
        return self.coap.online(*name) or self.mqtt.online(name)

    def tell_created(self, name: Name) -> None:
        """To the event log."""
        self._log.add("device-created", product_key=name[0], device_key=name[1])

    def set_enabled(self, name: Name, on: bool) -> None:
        """Disable a device or enable it, and tell it, or its gateway. Refuses unknown ones."""
        self._registry.device(*name).enabled = on
        self._registry.save()
        self._log.add("device-enabled", product_key=name[0], device_key=name[1], on=on)
        self.mqtt.tell_state(name, "enable" if on else "disable")

    def delete(self, name: Name) -> None:
        """Forget a device, after telling it, or its gateway. Refuses unknown ones."""
        self.mqtt.tell_state(name, "delete")
        self._registry.delete_device(*name)
        self._log.add("device-deleted", product_key=name[0], device_key=name[1])


def status(device: Device, *, online: bool) -> str:
    """EnOS's word for it: inactive until its first login."""
    if device.last_seen is None:
        return "inactive"
    return "online" if online else "offline"
