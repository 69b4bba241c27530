"""EnOS's API as an edge uses it: tokens got and renewed, devices created, a certificate had.

Needed now and then: it leaves the memory when it has done its part.
"""

import binascii
import os

from micropython import const

from imprint import port
from imprint.errors import ImprintError, ProtocolError, SetupError
from imprint.net.http_client import HttpClient

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from typing import Any

    from imprint.identity import Identity

_BURST_MS = const(10_000)  # calls come faster than a clock of whole seconds goes

_SUPERSEDED = const(4)  # reason of a revocation, RFC 5280

# errors.py
_TOKEN_EXPIRED = const(446)
_DEVICE_EXISTS = const(447)
_CERTIFICATE_UNUSABLE = const(450)


class Account:
    """What outlives a call: the token, and the last time that was told."""

    def __init__(self) -> None:
        self.token: "Any" = None  # a Secret
        self.until = 0  # ticks
        self.told_ms = 0
        self._part_ms = int.from_bytes(os.urandom(2), "big") % 1000

    def time_ms(self) -> int:
        """Now, and never the same twice: the API refuses that. Nor, as a rule, what was told in
        the same second before a reset, or by another edge of this account."""
        now_ms = port.unix_ms() + self._part_ms
        if 0 <= self.told_ms - now_ms < _BURST_MS:  # else the clock was set, back or on
            now_ms = self.told_ms + 1
        self.told_ms = now_ms
        return now_ms


class Api:
    """`rest` is clouds/enos_rest.py."""

    def __init__(
        self, identity: "Identity", rest: "Any", context: "Any", account: Account, feed: "Any"
    ) -> None:
        self._identity = identity
        self._rest = rest
        self._account = account
        self._http = HttpClient(
            identity.api_host or "", identity.api_port, context, feed, rest.ANSWER_MAX
        )

    def close(self) -> None:
        self._http.close()

    def call(self, call: tuple) -> "Any":
        """The answer's data. A token that expired is got anew, once. Raises ImprintError."""
        account = self._account
        for attempt in (1, 2):
            self._have_token()
            time_ms = account.time_ms()
            request = self._rest.signed(self._identity, account.token, call, time_ms)
            answer = self._http.exchange(*request)
            try:
                return self._rest.data(answer)
            except ImprintError as error:
                skewed = self._rest.skewed(error, answer, time_ms)
                if skewed.code == _TOKEN_EXPIRED:
                    account.token = None
                if skewed.code != _TOKEN_EXPIRED or attempt == 2:
                    raise skewed
        return None  # not reached

    def create(self, names: "list[tuple]") -> list:
        """[(secret or "", ImprintError or None)], in the order of `names`. One that exists
        already is asked for its secret."""
        rest = self._rest
        timezone = self._identity.timezone
        try:
            data = self.call(rest.device_create(self._identity, names, timezone))
            made = rest.devices_created(data)
        except SetupError as error:
            if len(names) > 1:
                raise
            made = [(None, None, "", error.number)]
        by_name = {item[:2]: item for item in made}
        found = []
        for at, name in enumerate(names):
            # A device that was refused is named by its place alone.
            item = by_name.get(name) or (made[at] if len(made) == len(names) else None)
            if item is None or item[0] not in (None, name[0]) or item[1] not in (None, name[1]):
                found.append(("", rest.refusal(-1, "not in the answer")))
            elif item[2]:
                found.append((item[2], None))
            else:
                refused = rest.refusal(item[3], name[1])
                exists = refused.code == _DEVICE_EXISTS
                found.append(self.secret(name) if exists else ("", refused))
        return found

    def secret(self, name: tuple) -> tuple:
        """(secret or "", ImprintError or None) of a device that exists."""
        try:
            data = self.call(self._rest.device_get(self._identity, *name))
        except SetupError as error:
            return "", error
        found = self._rest.device_secret(data)
        if found:
            return found, None
        return "", SetupError(_DEVICE_EXISTS, name[1])

    def bind(self, names: "list[tuple]") -> None:
        """Put sub-devices below this edge."""
        self.call(self._rest.topology_add(self._identity, names))

    def certificate(self, request: bytes, held: "dict | None") -> dict:
        """A new certificate for the key of `request` (DER), as the record for its vault; a
        renewal of the one that is `held`. Raises ImprintError."""
        from imprint.wire import der

        rest, burned = self._rest, self._identity
        pem, days = der.to_pem(request), burned.certificate_days
        if held:
            call = rest.certificate_renew(burned, held["serial"], pem, days)
        else:
            call = rest.certificate_apply(burned, pem, days)
        pem, serial = rest.certificate_issued(self.call(call))
        try:
            made = der.from_pem(pem)
            first, last = der.validity(made)
            if not der.is_for(made, request):
                raise ValueError("another key")
        except (ValueError, IndexError) as error:
            raise ProtocolError(_CERTIFICATE_UNUSABLE, str(error))
        return {
            "product_key": burned.product_key,
            "device_key": burned.device_key,
            "cert": binascii.b2a_base64(made).decode().strip(),
            "serial": serial,
            "first": first,
            "last": last,
        }

    def revoke(self, held: dict) -> None:
        """End a certificate that has a newer one in its place."""
        call = self._rest.certificate_revoke(self._identity, held["serial"], _SUPERSEDED)
        self.call(call)

    def _have_token(self) -> None:
        account = self._account
        if account.token and port.ticks_diff(account.until, port.ticks_ms()) > 0:
            return
        time_ms = account.time_ms()
        answer = self._http.exchange(*self._rest.token_request(self._identity, time_ms))
        try:
            account.token, life_s = self._rest.token(answer)
        except ImprintError as error:
            raise self._rest.skewed(error, answer, time_ms)
        # The same token comes again while it is valid: the new one in the old one's last tenth.
        left_ms = min(life_s, 86400) * 900
        account.until = port.ticks_add(port.ticks_ms(), left_ms)
