"""What an EnOS gateway may do for its sub-devices: register them, bind them, log them in and out.

No I/O: parameters of a request in, the reply's data out, or a Refusal whose reason is a key of
`enos_codes.MEANINGS`. Whoever owns the connection writes the reply.

A request about several devices is done whole or not at all, but for the batch login, which says
of each how it went.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imprint_tools.localcloud.enos import login as enos_login
from imprint_tools.localcloud.enos import messages
from imprint_tools.localcloud.enos import reports as enos_reports
from imprint_tools.localcloud.enos.codes import MEANINGS, OK
from imprint_tools.localcloud.enos.config import EnosConfig
from imprint_tools.localcloud.enos.faults import EnosFaults
from imprint_tools.localcloud.enos.records import GATEWAY, Device, Name
from imprint_tools.localcloud.enos.registry import EnosRegistry
from imprint_tools.localcloud.refusal import Refusal

Tell = Callable[..., None]
"""(kind, **details): to the event log."""


@dataclass(frozen=True)
class Answer:
    """What a reply says. `message`: None for what the code's own is."""

    data: Any = None
    code: int = OK
    message: str | None = None


@dataclass
class Session:
    """A gateway's, or any device's, connection: who it is, and which sub-devices it has online."""

    name: Name
    device: Device
    tell: Tell
    online: dict[Name, Device] = field(default_factory=dict)


Operation = Callable[[Session, Any], Answer]
"""What a gateway asks for: (its session, params) -> the reply."""


class Gateways:
    """The rules. `code` gives a reason's number."""

    def __init__(
        self,
        registry: EnosRegistry,
        config: EnosConfig,
        faults: EnosFaults,
        code: Callable[[str], int],
    ) -> None:
        self._registry = registry
        self._config = config
        self._faults = faults
        self._code = code
        self.system: Mapping[str, Operation] = {
            "thing/device/register": self.register,
            "thing/topo/add": self.add,
            "thing/topo/delete": self.delete,
            "thing/topo/get": self.topology,
        }
        """By topic, below /sys/{productKey}/{deviceKey}/ of the gateway."""
        self.session: Mapping[str, Operation] = {
            "combine/login": self.login,
            "combine/login/batch": self.login_batch,
            "combine/logout": self.logout,
        }
        """By topic, below /ext/session/{productKey}/{deviceKey}/."""

    # -- registration and topology -------------------------------------------------------------

    def register(self, session: Session, params: Any) -> Answer:
        """thing/device/register."""
        self._require_gateway(session)
        entries = messages.objects(params, self._config.limits.register_max)
        wanted: set[Name] = set()
        profiles = []
        for entry in entries:
            profiles.append(messages.profile(entry))
            wanted.add(self._may_register(session, entry, wanted))
        data = []
        for entry, profile in zip(entries, profiles, strict=True):
            device = self._registry.create_device(entry["productKey"], entry.get("deviceKey"))
            device.profile = profile
            device.attributes.update(entry.get("deviceAttributes", {}))
            name = (entry["productKey"], device.key)
            if self._config.inferred.register_binds:
                self._registry.bind(session.name, name)
            session.tell("registered", product_key=name[0], device_key=name[1])
            data.append(self._issued(device, name, secret=True))
        self._registry.save()
        return Answer(data)

    def add(self, session: Session, params: Any) -> Answer:
        """thing/topo/add: each signed with the sub-device's own secret."""
        self._require_gateway(session)
        entries = messages.objects(params, self._config.limits.batch_max)
        names = [_name(entry) for entry in entries]
        for entry, name in zip(entries, names, strict=True):
            device = self._known(name)
            self._check_sign(_shared(entry), name, device, device.secret, entry)
            if self._registry.product(name[0]).kind == GATEWAY:
                raise Refusal("gateway-as-subdevice")
            if device.gateway not in (None, session.name):
                raise Refusal("other-gateway")
        for name in names:
            self._registry.bind(session.name, name)
            session.tell("topology-added", product_key=name[0], device_key=name[1])
        self._registry.save()
        return Answer()

    def delete(self, session: Session, params: Any) -> Answer:
        """thing/topo/delete; who was online is offline then."""
        names = [_name(entry) for entry in messages.objects(params, self._config.limits.batch_max)]
        devices = [self._own(session, name) for name in names]
        for name, device in zip(names, devices, strict=True):
            self.leave(session, name, "topology")
            device.gateway = None
            session.tell("topology-deleted", product_key=name[0], device_key=name[1])
        self._registry.save()
        return Answer()

    def topology(self, session: Session, _params: Any) -> Answer:
        """thing/topo/get."""
        self._require_gateway(session)
        names = self._registry.subdevices(session.name)
        return Answer([{"productKey": pk, "deviceKey": dk} for pk, dk in names])

    # -- sessions of sub-devices ---------------------------------------------------------------

    def login(self, session: Session, params: Any) -> Answer:
        """combine/login."""
        if not isinstance(params, dict):
            raise messages.FormatError("params")
        return Answer(self._login(session, _shared(params), params))

    def login_batch(self, session: Session, params: Any) -> Answer:
        """combine/login/batch: the good ones are logged in, whatever the others are."""
        try:
            shared = _shared(params)
            entries = messages.objects(
                params.get("subDevices"), self._config.limits.subdevices_online_max
            )
            names = [_name(entry) for entry in entries]
        except messages.FormatError:
            return Answer({"loginedSubDevices": [], "failedSubDevices": []}, self._code("format"))
        logged_in, failed, troubles = [], [], []
        half = len(entries) // 2 if self._faults.take("half_batch") else len(entries)
        for place, (entry, (pk, dk)) in enumerate(zip(entries, names, strict=True)):
            try:
                if place >= half:
                    raise Refusal("device-disabled")
                logged_in.append(self._login(session, shared, entry))
            except Refusal as refusal:
                failed.append({"productKey": pk, "deviceKey": dk})
                troubles.append((self._code(refusal.reason), f"{pk}&{dk}", refusal.reason))
            except messages.FormatError:
                failed.append({"productKey": pk, "deviceKey": dk})
                troubles.append((self._code("format"), f"{pk}&{dk}", "format"))
        data = {"loginedSubDevices": logged_in, "failedSubDevices": failed}
        if not troubles:
            return Answer(data)
        message = " ".join(f"{who} has error: {MEANINGS[why].text};" for _, who, why in troubles)
        return Answer(data, troubles[0][0], message)

    def logout(self, session: Session, params: Any) -> Answer:
        """combine/logout; one that is not online is logged out already."""
        name = _name(params)
        self._own(session, name)
        self.leave(session, name, "logout")
        return Answer()

    def leave(self, session: Session, name: Name, reason: str) -> None:
        """A sub-device goes offline, if it was online."""
        device = session.online.pop(name, None)
        if device is not None:
            device.last_seen = time.time()
            self._registry.changed()
            session.tell("offline", product_key=name[0], device_key=name[1], reason=reason)

    def _login(
        self, session: Session, shared: Mapping[str, str], entry: Mapping[str, Any]
    ) -> dict[str, str]:
        """Log one in; what its reply says. Refuses, and tells the event log of it."""
        name = _name(entry)
        dynamic = _text_of(entry.get("secureMode", "2")) == enos_login.DYNAMIC
        try:
            device = self._may_login(session, shared, entry, name, dynamic=dynamic)
        except Refusal as refusal:
            code = self._code(refusal.reason)
            session.tell(
                "subdevice-refused",
                product_key=name[0], device_key=name[1], code=code, reason=refusal.reason,
            )  # fmt: skip
            raise
        device.last_seen = time.time()
        if dynamic:
            device.activations += 1
            device.activated = self._config.inferred.activated_by == "answer"
            issued = device.secret.fingerprint
            session.tell("activated", product_key=name[0], device_key=name[1], issued=issued)
        else:
            device.activated = True
        if name not in session.online:
            session.online[name] = device
            session.tell("online", product_key=name[0], device_key=name[1])
        self._registry.changed()
        return self._issued(device, name, secret=dynamic)

    def _may_login(
        self,
        session: Session,
        shared: Mapping[str, str],
        entry: Mapping[str, Any],
        name: Name,
        *,
        dynamic: bool,
    ) -> Device:
        device = self._known(name)
        product = self._registry.product(name[0])
        if product.kind == GATEWAY:
            raise Refusal("gateway-as-subdevice")
        if device.gateway != session.name:
            raise Refusal("not-a-subdevice")
        secret = product.secret if dynamic else device.secret
        self._check_sign(shared, name, device, secret, entry)
        if not device.enabled:
            raise Refusal("device-disabled")
        if dynamic:
            self._registry.may_activate(*name)
        most = self._config.limits.subdevices_online_max
        if name not in session.online and len(session.online) >= most:
            raise Refusal("too-many-subdevices")
        return device

    # -- posts on behalf -----------------------------------------------------------------------

    def speaker(self, session: Session, name: Name, *, offline_too: bool = False) -> Device:
        """The device that a post is of: the session's own, or a sub-device that is logged in.

        Refuses "not-a-subdevice", "device-disabled", "subdevice-offline".
        """
        device = session.device if name == session.name else self._own(session, name)
        if not device.enabled:
            raise Refusal("device-disabled")
        if name != session.name and name not in session.online and not offline_too:
            raise Refusal("subdevice-offline")
        return device

    def post_batch(
        self, session: Session, envelope: messages.Envelope, now_ms: int, *, late: bool
    ) -> int:
        """thing/measurepoint/post/batch and resume/batch: all or nothing; the number of points."""
        allow_offline, skip_invalid = messages.batch_flags(envelope)
        found = []
        for entry in messages.objects(envelope.params, self._config.limits.batch_max):
            # The Python SDK leaves an empty text where nothing was set.
            pk = entry.get("productKey") or session.name[0]
            dk = entry.get("deviceKey") or session.name[1]
            if not isinstance(pk, str) or not isinstance(dk, str):
                raise messages.FormatError("productKey or deviceKey")
            device = self.speaker(session, (pk, dk), offline_too=allow_offline)
            found.append(
                (device, messages.measurepoints(entry, now_ms, skip_invalid=skip_invalid))
            )
        for device, points in found:
            enos_reports.store(device, points, late=late)
            device.last_seen = time.time()
        return sum(len(points) for _, points in found)

    # -- checks --------------------------------------------------------------------------------

    def _require_gateway(self, session: Session) -> None:
        if self._registry.product(session.name[0]).kind != GATEWAY:
            raise Refusal("not-a-gateway")

    def _known(self, name: Name) -> Device:
        device = self._registry.device(*name)
        if device.mirror:
            raise Refusal("device-mirror")
        return device

    def _own(self, session: Session, name: Name) -> Device:
        """A sub-device of that gateway. Refuses "not-a-subdevice"."""
        try:
            device = self._registry.device(*name)
        except Refusal:
            raise Refusal("not-a-subdevice") from None
        if device.gateway != session.name:
            raise Refusal("not-a-subdevice")
        return device

    def _may_register(self, session: Session, entry: Mapping[str, Any], others: set[Name]) -> Name:
        product = self._registry.product(entry["productKey"])
        if product.organisation != self._registry.product(session.name[0]).organisation:
            raise Refusal("other-organisation")
        if product.kind == GATEWAY:
            raise Refusal("gateway-as-subdevice")
        key = entry.get("deviceKey")
        if key is None:
            key = f"<{len(others)}>"  # made when all are known to be right
        elif (product.key, key) in others or key in product.devices:
            raise Refusal("device-exists")
        if len(product.devices) + len(others) >= self._config.limits.devices_per_product:
            raise Refusal("too-many-devices")
        return product.key, key

    def _check_sign(
        self,
        shared: Mapping[str, str],
        name: Name,
        device: Device,
        secret: Any,
        entry: Mapping[str, Any],
    ) -> None:
        sign = messages.text(entry, "sign")
        if not enos_login.subdevice_signed_by(shared, *name, secret, sign):
            raise Refusal("signature-wrong")

    def _issued(self, device: Device, name: Name, *, secret: bool) -> dict[str, str]:
        data = {"assetId": device.asset_id, "productKey": name[0], "deviceKey": name[1]}
        return data | {"deviceSecret": device.secret.reveal().decode()} if secret else data


def _name(entry: Any) -> Name:
    return messages.text(entry, "productKey"), messages.text(entry, "deviceKey")


def _shared(entry: Mapping[str, Any]) -> dict[str, str]:
    """What is signed besides the names, and how. Topology requests of the documents and of the C
    SDK write signmethod; the timestamp is a string there and a number elsewhere."""
    if not isinstance(entry, dict):
        raise messages.FormatError("params")
    method = "signMethod" if "signMethod" in entry else "signmethod"
    return {
        "clientId": messages.text(entry, "clientId"),
        "timestamp": messages.text({"timestamp": _text_of(entry.get("timestamp"))}, "timestamp"),
        "signMethod": messages.text(entry, method),
    }


def _text_of(value: Any) -> Any:
    return str(value) if type(value) is int else value
