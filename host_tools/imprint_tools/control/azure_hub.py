"""The service side of an Azure IoT Hub: a device's identity and its twin.

REST of api-version 2021-04-12. A device's identity says whether it is connected and when it was
last active; that it disconnects a device at once when disabled is the hub's doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imprint_tools.control.azure_rest import AzureRest, segment
from imprint_tools.errors import ServiceError

API_VERSION = "2021-04-12"


class HubClient:
    """Devices of one hub, through one AzureRest made for API_VERSION."""

    def __init__(self, rest: AzureRest) -> None:
        self._rest = rest
        self.host = rest.host

    def close(self) -> None:
        """Drop the connections."""
        self._rest.close()

    def device(self, device_id: str) -> dict[str, Any] | None:
        """The identity: status, connectionState, lastActivityTime ...; None if there is none."""
        return self._get(f"/devices/{segment(device_id)}")

    def set_enabled(self, device_id: str, enabled: bool, reason: str = "") -> bool:
        """Enable or disable the identity; False if there is none."""
        identity = self.device(device_id)
        if identity is None:
            return False
        identity |= {"status": "enabled" if enabled else "disabled", "statusReason": reason[:128]}
        # "*": what is set here wins over whatever else is being changed.
        self._rest.request("PUT", f"/devices/{segment(device_id)}", identity, etag="*")
        return True

    def delete(self, device_id: str) -> None:
        """Delete the identity; one that is not there is as good as deleted."""
        try:
            self._rest.request("DELETE", f"/devices/{segment(device_id)}", etag="*")
        except ServiceError as error:
            if error.status != 404:
                raise

    def twin(self, device_id: str) -> dict[str, Any] | None:
        """The twin: tags, properties.desired, properties.reported; None if there is none."""
        return self._get(f"/twins/{segment(device_id)}")

    def patch_twin(
        self, device_id: str, tags: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> None:
        """Merge tags and desired properties into the twin; None deletes a key."""
        body = {"tags": dict(tags), "properties": {"desired": dict(desired)}}
        self._rest.request("PATCH", f"/twins/{segment(device_id)}", body, etag="*")

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            body = self._rest.request("GET", path).body
        except ServiceError as error:
            if error.status == 404:
                return None
            raise
        if not isinstance(body, dict):
            raise ServiceError("the hub answered with something other than a JSON object")
        return body
