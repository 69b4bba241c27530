"""What can go wrong on the board, whose fault it is, and what a person does next.

    ImprintError
      SetupError      the caller's: what was burned, stored or set up in the cloud; a person acts
      ProtocolError   the peer's lie: it answered, but not what the protocol allows
      WeatherError    the world's weather: nobody's fault, wait and try again (retry)

`code` is stable and is all that the board prints beside the class's name; `retry` says whether
trying again without a person can help. The docstrings cost nothing on the board: the host reads
this file and shows cause and `Next:` beside the code (imprint monitor).

Ranges: 1xx identity, vault, outbox; 2xx link, clock; 3xx TLS, transport; 4xx registration;
5xx login, session; 6xx reports.
"""


class ImprintError(Exception):
    """The root. `detail` is a short text and never a secret; `number` is the original errno,
    CONNACK or reply code, or None."""

    code = 0
    retry = False

    def __init__(self, detail: str = "", number: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.number = number


class SetupError(ImprintError):
    """What was burned, stored or set up is wrong; trying again cannot help."""


class ProtocolError(ImprintError):
    """The peer broke the protocol. Its next connection may be sane, so most are retried."""

    retry = True


class WeatherError(ImprintError):
    """Nobody's fault, and it may pass."""

    retry = True


# --- 1xx: identity, vault, outbox


class IdentityMissing(SetupError):
    """There is no identity on this board.

    Next: burn one with `imprint inject` or `imprint flash --identity FILE`.
    """

    code = 101


class IdentityDamaged(SetupError):
    """The identity cannot be read as JSON, or the root CA beside it is not the one it names.

    Next: burn it again with `imprint inject`; if that repeats, the flash is worn or the power
    fails while writing.
    """

    code = 102


class IdentityError(SetupError):
    """A field of the identity is missing or breaks its rule; `detail` names field and rule.

    Next: correct the field in the identity file and burn it again with `imprint inject`.
    """

    code = 103


class VaultDamaged(SetupError):
    """A credential was stored here, but no slot of the vault holds a whole one any more.

    Next: nothing if the unit registers again by itself. If that is refused, free a ClientID
    (DeleteClientIds) or reset the registration (ResetThing) in the cloud and power-cycle.
    """

    code = 110


class VaultWriteFailed(SetupError):
    """The credential did not read back as written, or the store refused it (full, worn).
    The last good one is untouched.

    Next: free or enlarge the nvs partition (`imprint flash` writes a fresh one), then
    power-cycle; the registration just made may have used a slot.
    """

    code = 111


class OutboxFull(SetupError):
    """The file system takes no message, even after every older one was dropped.

    Next: look at the file system with `mpremote df`; write it anew with `imprint flash`.
    """

    code = 120


# --- 2xx: link, clock


class AccessPointNotFound(WeatherError):
    """No access point of the burned name answers.

    Next: check `wifi_ssid` (case counts), the distance, and that the network is on 2.4 GHz.
    """

    code = 201


class WifiPasswordWrong(WeatherError):
    """The access point refused the key exchange. A weak signal looks the same, hence the retry.

    Next: check `wifi_password`; bring the board nearer to the access point.
    """

    code = 202


class LinkTimeout(WeatherError):
    """The access point was found, but no address came within the time allowed.

    Next: check the DHCP server and the number of stations that the access point admits.
    """

    code = 203


class LinkLost(WeatherError):
    """The link was up and went down.

    Next: wait; the board joins again by itself.
    """

    code = 204


class ClockNotSet(WeatherError):
    """No time server answered, and without a date no certificate can be checked.

    Next: let UDP port 123 out to `ntp_host`, or burn a reachable `ntp_host`.
    """

    code = 210


# --- 3xx: TLS, transport


class NameNotResolved(WeatherError):
    """DNS does not know the cloud's host name.

    Next: check `region`, `instance_id` and `host`, then the network's DNS server.
    """

    code = 301


class ConnectTimeout(WeatherError):
    """The cloud's host did not answer the connection attempt.

    Next: let the cloud's TCP port (8883) out through the firewall.
    """

    code = 302


class ConnectRefused(WeatherError):
    """The cloud's host, or something on the way, refused the connection.

    Next: check `host` and `port`; let the port out through the firewall.
    """

    code = 303


class ConnectionLost(WeatherError):
    """The connection broke while it was in use; `number` is the errno.

    Next: wait; the board connects again by itself.
    """

    code = 304


class CertificateDateWrong(ProtocolError):
    """The server's or the root's certificate is expired or not yet valid. Retried, as all that
    does not verify: a server's certificate is renewed, a captive portal goes away.

    Next: compare the board's clock (`imprint monitor`) with the certificate's dates; burn a new
    root CA if the old one has expired.
    """

    code = 310


class ServerNameWrong(ProtocolError):
    """The server's certificate is for another name: a wrong host, or somebody in between.

    Next: check `region`, `instance_id` and `host`; look for an intercepting proxy.
    """

    code = 311


class IssuerUntrusted(ProtocolError):
    """The server's certificate does not lead to the burned root CA.

    Next: burn the root CA that the cloud names for this port; look for an intercepting proxy.
    """

    code = 312


class HandshakeFailed(WeatherError):
    """TLS failed in another way; `detail` has mbedTLS's words.

    Next: check that the port speaks TLS 1.2 and that the board has memory left (event `heap`).
    """

    code = 313


class PeerClosed(ProtocolError):
    """The broker closed the connection in the middle of a packet or of a dialogue.

    Next: wait; if it repeats, look for a second unit that uses the same credential.
    """

    code = 320


class PeerGarbage(ProtocolError):
    """The broker sent bytes that are not MQTT.

    Next: check that `host` and `port` are the cloud's own; look for an intercepting proxy.
    """

    code = 321


class PeerSilent(ProtocolError):
    """The broker did not answer within the time allowed.

    Next: wait; if it repeats, check the network for loss.
    """

    code = 322


# --- 4xx: registration


class RegistrationRejected(SetupError):
    """CONNACK 2: a parameter of the registration is missing or malformed.

    Next: check `product_key`, `device_name`, `instance_id`, `secure_mode`, `client_id`.
    """

    code = 401


class RegnwlRefused(SetupError):
    """CONNACK 4 (or an unlisted code) under `regnwl`: the product's secret or key is wrong,
    dynamic registration is switched off, or this name already has its five ClientIDs.

    Next: in the console turn on the product's Dynamic Registration; compare the product secret's
    fingerprint with `imprint verify`; if the name has five ClientIDs, run DeleteClientIds for it
    (or delete the device), then power-cycle the unit.
    """

    code = 402


class RegisterRefused(SetupError):
    """CONNACK 4 (or an unlisted code) under `register`: the name was not added to the product,
    is already activated, the switch is off, or the product's secret or key is wrong.

    Next: add the device name to the product if it is absent; if it is activated, run ResetThing
    for it; turn on Dynamic Registration; then power-cycle the unit.
    """

    code = 403


class RegistrationUnavailable(WeatherError):
    """CONNACK 3: the platform cannot register now.

    Next: wait; the board tries again by itself.
    """

    code = 404


class RegistrationUnanswered(WeatherError):
    """The registration was accepted, but no credential came within 15 s. The outcome is unknown:
    one of the name's five ClientIDs may be used.

    Next: wait; if it repeats, count the name's ClientIDs (QueryClientIds) before they run out.
    """

    code = 405


class RegistrationAnswerMalformed(ProtocolError):
    """The pushed credential is not what the platform documents; not repeated, since each
    registration may use a slot.

    Next: check that `host` is the cloud's own; report the event's detail to the developers.
    """

    code = 406
    retry = False


class RegistrationAnswerForeign(ProtocolError):
    """The pushed credential is of another product or device; it was not stored.

    Next: check that no gateway mixes up connections; then power-cycle the unit.
    """

    code = 407
    retry = False


# --- 5xx: login, session


class LoginIdRejected(SetupError):
    """CONNACK 1 or 2: the cloud does not accept the client id, its parameters or the keepalive.

    Next: check `client_id`, `instance_id` and `host`.
    """

    code = 501


class LoginRefused(SetupError):
    """CONNACK 4 or 5: the credential is not valid (disabled, switched to another ClientID,
    cleared, deleted). The unit does not register again by itself.

    Next: look at the device in the console: enable it, or choose this unit's ClientID (Switch);
    if it was cleared on purpose, erase `cred_a` and `cred_b` and let the unit register anew.
    """

    code = 502


class LoginUnavailable(WeatherError):
    """CONNACK 3: the platform's MQTT service is not available now.

    Next: wait; the board tries again by itself.
    """

    code = 503


class SubscriptionRefused(SetupError):
    """The broker refused a subscription; `detail` is the topic.

    Next: create the topic class in the product and give it the right SUB.
    """

    code = 504


# --- 6xx: reports


class ReportRefused(SetupError):
    """The cloud refused a report and would refuse it again; it was dropped. `number` is the reply
    code: 460 a wrong parameter, 6207 not JSON, 6300 method missing, 5005 or 6250 the product.

    Next: compare the reported names and types with the product's thing model.
    """

    code = 601


class ReportDeferred(WeatherError):
    """The cloud cannot take the report now: 429 throttled, 5xx a fault of its own. It is kept.

    Next: wait; if 429 repeats, burn a longer `interval_s`.
    """

    code = 602


class DeviceDisabled(SetupError):
    """The cloud knows this device but it is disabled (6204) or deleted (6100).

    Next: enable the device in the console, then power-cycle the unit.
    """

    code = 603


class ReportUnanswered(WeatherError):
    """The broker took the report, but the cloud's reply did not come. It is kept and sent again.

    Next: wait; if it repeats, check that the product has a thing model.
    """

    code = 604
