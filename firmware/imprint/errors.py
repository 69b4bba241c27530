"""What can go wrong on the board, whose fault it is, and what a person does next.

    ImprintError
      SetupError      the caller's: what was burned, stored or set up in the cloud; a person acts
      ProtocolError   the peer's lie: it answered, but not what the protocol allows
      WeatherError    the world's weather: nobody's fault, wait and try again (retry)

The kind says whether trying again without a person can help; the code, which is stable and all
that the board prints, says what it was. This file is the one place that explains the codes, and
on a board it weighs nothing but four classes: a `_NAME = const()` and the text under it leave no
byte behind. So a module that raises a code says `_NAME = const()` again (MicroPython inlines a
constant only within its file), and a test compares the two. The text begins with the kind; the
host reads it and shows cause and `Next:` beside the code (imprint monitor).

Ranges: 1xx identity, vault, outbox; 2xx link, clock, modem, network; 3xx TLS, transport; 4xx
registration; 5xx login, session, sub-devices; 6xx reports.
"""

from micropython import const


class ImprintError(Exception):
    """The root. `code` is one of those below, `detail` a short text and never a secret, `number`
    the original errno, CONNACK or reply code, or None."""

    retry = False

    def __init__(self, code: int, detail: str = "", number: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.number = number


class SetupError(ImprintError):
    """What was burned, stored or set up is wrong; trying again cannot help."""


class ProtocolError(ImprintError):
    """The peer broke the protocol. Its next connection may be sane."""

    retry = True


class WeatherError(ImprintError):
    """Nobody's fault, and it may pass."""

    retry = True


# --- 1xx: identity, vault, outbox

_IDENTITY_MISSING = const(101)
"""SetupError: There is no identity on this board.

Next: burn one with `imprint inject` or `imprint flash --identity FILE`.
"""

_IDENTITY_DAMAGED = const(102)
"""SetupError: The identity cannot be read as JSON, or the root CA beside it is not the one it
names.

Next: burn it again with `imprint inject`; if that repeats, the flash is worn or the power fails
while writing.
"""

_IDENTITY_ERROR = const(103)
"""SetupError: A field of the identity is missing or breaks its rule; `detail` names field and
rule.

Next: correct the field in the identity file and burn it again with `imprint inject`.
"""

_DEVICE_KEY_MISMATCH = const(104)
"""SetupError: The identity names a device key and says that it is the modem's IMEI, but this modem
has another one: the modem was changed, or the identity is of another unit.

Next: compare the IMEI on the modem with `device_key`; fit the right modem, or burn an identity
whose `device_key` is absent or right.
"""

_IMEI_INVALID = const(105)
"""ProtocolError: What the modem gave for its IMEI is not 15 digits of which the last one checks.

Next: wait; if it repeats, look at the line to the modem, and with AT+CGSN whether its IMEI was
erased.
"""

_SUBDEVICES_WRONG = const(106)
"""SetupError: The list of sub-devices breaks a rule; `detail` names line, table, bus or address.

Next: correct the list in the identity's source and burn it again with `imprint inject`.
"""

_VAULT_DAMAGED = const(110)
"""SetupError: A credential was stored here, but no slot of the vault holds a whole one any more.

Next: nothing if the unit registers again by itself. If that is refused, free a ClientID
(DeleteClientIds) or reset the registration (ResetThing) in the cloud and power-cycle.
"""

_VAULT_WRITE_FAILED = const(111)
"""SetupError: The credential did not read back as written, or the store refused it (full, worn).
The last good one is untouched.

Next: free or enlarge the nvs partition (`imprint flash` writes a fresh one), then power-cycle; the
registration just made may have used a slot.
"""

_SUBDEVICE_NOT_STORED = const(112)
"""SetupError: What the cloud issued to a sub-device (`detail`) did not read back as written, or
the file system refused it. The others are not touched; this one is asked for again.

Next: look at the file system with `mpremote df`; write it anew with `imprint flash`.
"""

_OUTBOX_FULL = const(120)
"""SetupError: The file system takes no message, even after every older one was dropped.

Next: look at the file system with `mpremote df`; write it anew with `imprint flash`.
"""


# --- 2xx: link, clock

_ACCESS_POINT_NOT_FOUND = const(201)
"""WeatherError: No access point of the burned name answers.

Next: check `wifi_ssid` (case counts), the distance, and that the network is on 2.4 GHz.
"""

_WIFI_PASSWORD_WRONG = const(202)
"""WeatherError: The access point refused the key exchange. A weak signal looks the same, hence the
retry.

Next: check `wifi_password`; bring the board nearer to the access point.
"""

_LINK_TIMEOUT = const(203)
"""WeatherError: The access point was found, but no address came within the time allowed.

Next: check the DHCP server and the number of stations that the access point admits.
"""

_LINK_LOST = const(204)
"""WeatherError: The link was up and went down.

Next: wait; the board joins again by itself.
"""

_CLOCK_NOT_SET = const(210)
"""WeatherError: No time server answered, and without a date no certificate can be checked.

Next: let UDP port 123 out to `ntp_host`, or burn a reachable `ntp_host`.
"""


# --- 22x: modem

_MODEM_SILENT = const(220)
"""WeatherError: The modem does not answer AT, or gives no answer that can be told from noise.

Next: check its power, TX and RX (they cross), the baud rate and, if wired, RTS and CTS; a modem
that was never answered by needs its power key pressed.
"""

_MODEM_TIMEOUT = const(221)
"""WeatherError: The modem began a command and did not end it in time; `detail` is the command. It
is not repeated blindly: the modem is asked until it is in step again.

Next: wait; if it repeats, look at the signal, and at the supply while the radio sends (2 A peaks).
"""

_MODEM_GARBAGE = const(222)
"""ProtocolError: The modem answered otherwise than its manual has it; `detail` is the command.

Next: check that `modem` names the family that is on the board, then its firmware's version.
"""

_MODEM_REFUSED = const(223)
"""WeatherError: The modem answered ERROR; `detail` is the command, `number` the CME or CMS code
(3 not allowed, 4 not supported, 50 wrong parameters, 100 unknown, 500 and more the vendor's own).

Next: wait; if it repeats, look the number up in the modem's manual. A command that holds the
modem to a band (XBANDLOCK, UBANDMASK, QCFG, SQNBANDSEL): does the modem have the burned `band`?
"""

_MODEM_UNSUPPORTED = const(224)
"""SetupError: The modem on this board cannot do what the journey needs of it; `detail` says what.

Next: check that `modem` names the family that is on the board; update the modem's firmware.
"""

_SIM_MISSING = const(225)
"""SetupError: The modem finds no usable SIM (`number`: 10 not inserted, 13 failure, 15 wrong).

Next: insert the SIM, contacts clean and the right way round, then power-cycle the unit.
"""

_SIM_PIN = const(226)
"""SetupError: The SIM wants a PIN that is not burned, refused the one that is (`number` 16), or is
locked (12 PUK). A refused PIN is not tried again: the third wrong one locks the card.

Next: burn the right `sim_pin`, or take the PIN off the card; a locked card needs its PUK in a
telephone.
"""

_MODEM_REBOOTED = const(227)
"""WeatherError: The modem started anew in the middle of its work: sockets and sessions are gone.

Next: wait; if it repeats, look at the supply while the radio sends (2 A peaks).
"""

_PSK_NOT_STORED = const(228)
"""SetupError: The modem's store does not take the pre-shared key or its identity; `number` is its
own code (nRF91: 515 full, 518 radio still on, 519 exists).

Next: free a slot of the modem's credential store, or update its firmware.
"""

_SESSION_REFUSED = const(229)
"""WeatherError: DTLS with the cloud was not established. Modems do not say why: no network, no
such name, a wrong key or identity, and no cipher suite in common look alike. `number` is the
modem's own code, if it has one.

Next: compare identity and key with `imprint verify`; check `host` and `port`; the server must
accept the suite that the modem offers (PSK-AES128-CCM-8 or PSK-AES128-CBC-SHA256).
"""


# --- 23x: network registration

_NETWORK_NOT_FOUND = const(230)
"""WeatherError: The modem found no network that it may use within the time allowed; `number` is
the state of +CEREG (0 gave up, 2 still searching).

Next: check the antenna, that the SIM's operator has NB-IoT or LTE-M here, and `band` and `rat`; a
first search can take a quarter of an hour.
"""

_REGISTRATION_DENIED = const(231)
"""WeatherError: The network refused the subscriber or barred the cell; `number` is the cause (3, 6
illegal, 7, 8 no service, 11 to 15 not in this network, area or cell), if it gave one. Retried,
since areas and bars change.

Next: ask the operator whether the SIM is active, and whether its contract has NB-IoT or LTE-M and
roaming.
"""

_DATA_REFUSED = const(232)
"""WeatherError: The unit is registered but gets no data connection.

Next: check `apn`; ask the operator which APN the contract has.
"""

_DATA_LOST = const(233)
"""WeatherError: The network took the data connection away.

Next: wait; the unit attaches again by itself.
"""


# --- 25x: field bus

_SLAVE_SILENT = const(250)
"""WeatherError: A Modbus slave does not answer; `detail` is its address.

Next: check its power, its address, the bus's baud rate and parity, A and B (they do not cross) and
the termination.
"""

_SLAVE_GARBAGE = const(251)
"""ProtocolError: A Modbus slave's answer is damaged (CRC) or is none to what was asked.

Next: look for two slaves of one address, a missing termination, and a wrong baud rate or parity.
"""

_SLAVE_REFUSED = const(252)
"""SetupError: A Modbus slave answered with an exception; `number` is its code: 1 function, 2
register, 3 value, 4 a fault of the device.

Next: compare the table's kinds and registers with the device's manual; they count from 0 here.
"""

_SLAVE_BUSY = const(253)
"""WeatherError: A Modbus slave is busy (exception 5 or 6).

Next: wait; if it repeats, burn a longer `interval_s`.
"""


# --- 3xx: TLS, transport

_NAME_NOT_RESOLVED = const(301)
"""WeatherError: DNS does not know the cloud's host name.

Next: check `region`, `instance_id` and `host`, then the network's DNS server.
"""

_CONNECT_TIMEOUT = const(302)
"""WeatherError: The cloud's host did not answer the connection attempt.

Next: let the cloud's port (TCP 8883; over CoAP, UDP 5684) out through the firewall.
"""

_CONNECT_REFUSED = const(303)
"""WeatherError: The cloud's host, or something on the way, refused the connection.

Next: check `host` and `port`; let the port out through the firewall.
"""

_CONNECTION_LOST = const(304)
"""WeatherError: The connection broke while it was in use; `number` is the errno.

Next: wait; the board connects again by itself.
"""

_CERTIFICATE_DATE_WRONG = const(310)
"""ProtocolError: The server's or the root's certificate is expired or not yet valid. Retried, as
all that does not verify: a server's certificate is renewed, a captive portal goes away.

Next: compare the board's clock (`imprint monitor`) with the certificate's dates; burn a new root
CA if the old one has expired.
"""

_SERVER_NAME_WRONG = const(311)
"""ProtocolError: The server's certificate is for another name, or has none but its subject's: a
wrong host, or somebody in between.

Next: check `region`, `instance_id` and `host`; look for an intercepting proxy. A gateway's
certificate must have the name dialled as subject alternative name (`imprint gateway check`).
"""

_ISSUER_UNTRUSTED = const(312)
"""ProtocolError: The server's certificate does not lead to the burned root CA.

Next: burn the root CA that the cloud names for this port; look for an intercepting proxy. Of a
gateway, `imprint gateway check` tells whether it is self-signed, lacks its intermediate or has
another root.
"""

_HANDSHAKE_FAILED = const(313)
"""WeatherError: TLS failed in another way; `detail` has mbedTLS's words.

Next: check that the port speaks TLS 1.2 and that the board has memory left (event `heap`); over
CoAP compare identity, key and suite with the cloud's.
"""

_CERTIFICATE_UNFIT = const(314)
"""ProtocolError: The server's certificate is not for a TLS server, or a key of its chain is too
weak (RSA below 2048 bits).

Next: have it issued anew, with extended key usage serverAuth; `imprint gateway check` shows which
certificate it is.
"""

_PEER_CLOSED = const(320)
"""ProtocolError: The broker closed the connection in the middle of a packet or of a dialogue.

Next: wait; if it repeats, look for a second unit that uses the same credential.
"""

_PEER_GARBAGE = const(321)
"""ProtocolError: The broker sent bytes that are not MQTT.

Next: check that `host` and `port` are the cloud's own; look for an intercepting proxy.
"""

_PEER_SILENT = const(322)
"""ProtocolError: The broker did not answer within the time allowed.

Next: wait; if it repeats, check the network for loss.
"""

_COAP_UNANSWERED = const(330)
"""WeatherError: Nobody answered a CoAP request, retransmissions included: no coverage, or the DTLS
session is dead (a NAT on the way forgot it, the server restarted), which no message tells.

Next: wait; the board makes a new session by itself. If it repeats, check signal, `host` and
`port`.
"""

_COAP_RESET = const(331)
"""ProtocolError: The peer answered a CoAP request with a Reset: it does not know what it is about.

Next: wait; if it repeats, check that `host` and `port` are the cloud's CoAP endpoint.
"""

_COAP_ANSWER_UNUSABLE = const(332)
"""ProtocolError: A CoAP response came that cannot be used: it has a critical option that we do not
know, or its blocks do not fit together or are too many; `detail` says which.

Next: check that `host` and `port` are the cloud's own; report the event's detail to the
developers.
"""


_HTTP_GARBAGE = const(340)
"""ProtocolError: The API's server sent what is not HTTP, or less of it than it announced.

Next: check `api_host` and `api_port`; look for an intercepting proxy.
"""

_HTTP_TOO_LARGE = const(341)
"""ProtocolError: The API's answer is larger than the board has room for.

Next: check that `api_host` is the cloud's API gateway and not its console.
"""

_HTTP_REDIRECT = const(342)
"""ProtocolError: The API's server wants the board to go elsewhere, which it does not do: what was
verified is this server.

Next: burn the `api_host` that it redirects to, if that is the cloud's.
"""

# --- 4xx: registration

_REGISTRATION_REJECTED = const(401)
"""SetupError: CONNACK 2: a parameter of the registration is missing or malformed.

Next: check `product_key`, `device_name`, `instance_id`, `secure_mode`, `client_id`.
"""

_REGNWL_REFUSED = const(402)
"""SetupError: CONNACK 4 (or an unlisted code) under `regnwl`: the product's secret or key is
wrong, dynamic registration is switched off, or this name already has its five ClientIDs.

Next: in the console turn on the product's Dynamic Registration; compare the product secret's
fingerprint with `imprint verify`; if the name has five ClientIDs, run DeleteClientIds for it (or
delete the device), then power-cycle the unit.
"""

_REGISTER_REFUSED = const(403)
"""SetupError: CONNACK 4 (or an unlisted code) under `register`: the name was not added to the
product, is already activated, the switch is off, or the product's secret or key is wrong.

Next: add the device name to the product if it is absent; if it is activated, run ResetThing for
it; turn on Dynamic Registration; then power-cycle the unit.
"""

_REGISTRATION_UNAVAILABLE = const(404)
"""WeatherError: CONNACK 3: the platform cannot register now.

Next: wait; the board tries again by itself.
"""

_REGISTRATION_UNANSWERED = const(405)
"""WeatherError: The registration was accepted, but no credential came within 15 s. The outcome is
unknown: one of the name's five ClientIDs may be used.

Next: wait; if it repeats, count the name's ClientIDs (QueryClientIds) before they run out.
"""

_REGISTRATION_ANSWER_MALFORMED = const(406)
"""SetupError: The pushed credential is not what the platform documents; not repeated, since each
registration may use a slot.

Next: check that `host` is the cloud's own; report the event's detail to the developers.
"""

_REGISTRATION_ANSWER_FOREIGN = const(407)
"""SetupError: The pushed credential is of another product or device; it was not stored.

Next: check that no gateway mixes up connections; then power-cycle the unit.
"""

_ACTIVATION_REFUSED = const(410)
"""SetupError: EnOS does not activate this device; `number` is the CoAP code (401 is 4.01, and so
on) or the code of the reply: 770 the product does not allow it, 771 activated already, 705 no
such device, 723 disabled.

Next: in the console add the device key to the product and turn on its dynamic activation. If the
device was activated before, burn its device secret with `secure_mode` 2. Then power-cycle.
"""

_ACTIVATION_UNAVAILABLE = const(411)
"""WeatherError: EnOS cannot activate now: 5xx a fault of its own, 429 throttled; `number` is the
CoAP code or the code of the reply.

Next: wait; the board asks again by itself.
"""

_ACTIVATION_ANSWER_MALFORMED = const(412)
"""ProtocolError: The activation's answer is not what EnOS documents; `detail` says what. It is
asked for again: a GET changes nothing.

Next: check that `host` is the cloud's own; if it repeats, look in the console whether the device
counts as activated, and then burn its device secret with `secure_mode` 2.
"""

_ACTIVATION_ANSWER_FOREIGN = const(413)
"""SetupError: The activation's answer is of another product or device; it was not stored.

Next: check `product_key` and `device_key`, and that no other unit has the same; then power-cycle.
"""

_ATTESTATION_REFUSED = const(420)
"""SetupError: DPS does not accept what proves this unit: status 401 or 403, or CONNACK 4 or 5.
`number` is the CONNACK or DPS's six digits (401002: a wrong certificate or key).

Next: compare certificate or key of the enrolment with `imprint verify`; with X.509 the common name
must be the `registration_id`, and a group wants the leaf's issuers with it; then power-cycle.
"""

_NOT_ENROLLED = const(421)
"""SetupError: DPS knows no enrolment for this unit (status 404).

Next: check `id_scope` and `registration_id`; enrol the unit, then power-cycle it.
"""

_PROVISIONING_REFUSED = const(422)
"""SetupError: DPS does not understand the registration: status 400, 412 or 415, or CONNACK 1 or 2.
`number` is the CONNACK or DPS's six digits.

Next: check `id_scope`, `registration_id` and `host`; report the event's detail to the developers.
"""

_PROVISIONING_UNAVAILABLE = const(423)
"""WeatherError: DPS cannot register now: throttled (429), busy with this enrolment (409), a fault
of its own (5xx) or CONNACK 3. What it asks to wait for is obeyed.

Next: wait; if 429 repeats, switch on fewer units at a time (1,000 registrations a minute).
"""

_PROVISIONING_UNANSWERED = const(424)
"""WeatherError: DPS took the registration and did not answer it in time. To ask again is free of
consequences.

Next: wait; the board asks again by itself.
"""

_ASSIGNMENT_FAILED = const(425)
"""WeatherError: DPS found no hub for this unit. `number` is its code: 400207 custom allocation
failed, 400208 no hub is linked, 400209 the hub does not let it in.

Next: look at the enrolment's allocation policy and at the linked hubs; the board asks again.
"""

_PROVISIONING_MALFORMED = const(426)
"""ProtocolError: DPS's answer is not what it documents; `detail` says what. It is asked again.

Next: check that `host` is the service's own; report the event's detail to the developers.
"""


_SERVICE_ACCOUNT_REFUSED = const(440)
"""SetupError: EnOS's API does not know the service account (1002) or refuses its secret (1003; 497
in the older API). The clock agrees with the server's, so that it is not.

Next: compare `access_key` and the fingerprint of `access_secret` with the application's in the
console; burn them again.
"""

_CLOCK_SKEWED = const(441)
"""WeatherError: EnOS's API refused a signature, and its own date is minutes away from the board's:
signatures hold the time. The clock is set anew.

Next: wait; if it repeats, check that `ntp_host` tells the right time.
"""

_API_FORBIDDEN = const(442)
"""SetupError: The service account is right, but may not do that: the organisation has not
registered the application (498), or its policy does not grant it (403).

Next: in the console let the organisation `org_id` register the application, and grant it device
management, and for certificates their apply, renew and revoke.
"""

_API_DEFERRED = const(443)
"""WeatherError: EnOS's API cannot do that now: 429 throttled, 5xx, 1005 or 99500 a fault of its
own, 1001 a timestamp that was used before.

Next: wait; the board asks again by itself.
"""

_API_REFUSED = const(444)
"""SetupError: EnOS's API refused a request for good; `number` is its code, `detail` its words:
99400 an argument (for a certificate also: days beyond the product's maximum, or a product without
certificates), 11833 a certificate of another device. What it says of a product that belongs to
another organisation is not documented, and is shown here, too.

Next: check `org_id`, `subdevice_product_key`, `timezone` and `certificate_days`, and whose product
it is; for one without certificates leave `certificate` out.
"""

_API_ANSWER_MALFORMED = const(445)
"""ProtocolError: The API's answer is not what EnOS documents; `detail` says what is missing.

Next: check `api_host`; report the event's detail to the developers.
"""

_TOKEN_EXPIRED = const(446)
"""WeatherError: The API's token is not valid any more (1203, 401), and a new one was refused, too.

Next: wait; if it repeats, look whether another unit gets tokens with the same service account.
"""

_DEVICE_EXISTS = const(447)
"""SetupError: A sub-device of that device key exists already (11702) and its secret cannot be had.

Next: burn its secret in the list of sub-devices, or delete it in the console.
"""

_DEVICE_ABSENT = const(448)
"""SetupError: The API does not find a device (11404): the edge itself, or a sub-device.

Next: check `product_key`, `device_key` and `org_id`; create the device in the console.
"""

_DEVICE_LIMIT = const(449)
"""SetupError: The product has no room for more devices (11739).

Next: have the limit raised, or delete devices that are not used.
"""

_CERTIFICATE_UNUSABLE = const(450)
"""ProtocolError: The certificate that EnOS issued is none, or not for this unit's key.

Next: wait, it is asked for again; if it repeats, burn the identity again with `imprint inject`.
"""

_CERTIFICATE_DUE = const(451)
"""WeatherError: Two thirds of the life of this unit's certificate are over: it reconnects with a
new one.

Next: nothing.
"""


# --- 5xx: login, session

_LOGIN_ID_REJECTED = const(501)
"""SetupError: CONNACK 1 or 2: the cloud does not accept the client id, its parameters or the
keepalive.

Next: check `client_id`, `instance_id` and `host`.
"""

_LOGIN_REFUSED = const(502)
"""SetupError: CONNACK 4 or 5: the credential is not valid (disabled, switched to another ClientID,
cleared, deleted). The unit does not register again by itself.

Next: look at the device in the console: enable it, or choose this unit's ClientID (Switch); if it
was cleared on purpose, erase `cred_a` and `cred_b` and let the unit register anew.
"""

_LOGIN_UNAVAILABLE = const(503)
"""WeatherError: CONNACK 3: the platform's MQTT service is not available now.

Next: wait; the board tries again by itself.
"""

_SUBSCRIPTION_REFUSED = const(504)
"""SetupError: The broker refused a subscription; `detail` is the topic.

Next: create the topic class in the product and give it the right SUB.
"""

_SESSION_EXPIRED = const(505)
"""WeatherError: CoAP 4.01: the cloud does not hold this session for authenticated any more.

Next: nothing; the board makes a new session. If it repeats at once, compare the device secret's
fingerprint with `imprint verify`, and look whether another unit uses the same device key.
"""

_FORBIDDEN = const(506)
"""SetupError: CoAP 4.03: the cloud knows this device and does not let it do that.

Next: look at the device in the console: is it enabled, and in the product `product_key`? Then
power-cycle the unit.
"""

_HUB_REFUSED = const(507)
"""WeatherError: CONNACK 4 or 5: hub or gateway does not let this device in: unknown, disabled, a
wrong key or certificate, or a gateway that has not heard of it yet (up to an hour). Neither says
which. Under `azure-dps` the unit asks DPS next, which may name another hub.

Next: look at the device in the hub; behind a gateway, at its parent; compare key or certificate
with `imprint verify`.
"""


_CERTIFICATE_DEMANDED = const(510)
"""SetupError: CONNACK 5, and this unit shows no certificate: as a rule the product demands one
(746). The device may also be disabled (723), a mirror (719), a sub-device (741), or one that
cannot be activated (770, 771); which it is stands in the cloud's device log only.

Next: look into the device log; for 746 burn `certificate = "apply"` with a service account, or
switch the product's certificate authentication off; for 771 burn the device's own secret.
"""

_CERTIFICATE_REFUSED = const(511)
"""SetupError: CONNACK 5 although this unit showed its certificate: as a rule that was revoked, or
is not the one that is bound to the device (745). The device may also be disabled (723), a mirror
(719) or a sub-device (741); which it is stands in the cloud's device log only.

Next: look into the device log; after a revocation burn the identity again with `imprint inject`:
it comes with a new key, for which the unit applies for a certificate.
"""


# --- 52x: sub-devices

_SUBDEVICE_ABSENT = const(520)
"""SetupError: EnOS does not know this sub-device (705); `detail` is its device key.

Next: create it in the console, or let the edge do it: `subdevice_registration`.
"""

_SUBDEVICE_DISABLED = const(521)
"""SetupError: This sub-device is disabled in the cloud (723).

Next: enable it in the console; the edge logs it in as soon as it is told.
"""

_SUBDEVICE_FOREIGN = const(522)
"""SetupError: This sub-device is not in this edge's topology (740), or is in another's.

Next: in the console add it to this edge, after removing it from the other; an edge that knows its
secret does it by itself.
"""

_SUBDEVICE_SECRET_WRONG = const(523)
"""SetupError: This sub-device's signature was refused (742): its secret is not the cloud's.

Next: compare the secret in the list of sub-devices with the console's; one that was issued is
asked for again at the next start.
"""

_SUBDEVICE_CERTIFICATE = const(524)
"""SetupError: EnOS wants a valid certificate (745, 746) before this sub-device may log in.

Next: switch certificate authentication off in the sub-device's product, or burn `certificate =
"apply"` for the edge.
"""

_SUBDEVICE_NOT_ACTIVATED = const(525)
"""SetupError: This sub-device cannot be activated with its product's secret: the product does not
allow it (770), or it was done before (771).

Next: turn dynamic activation on in its product; if it was activated before, burn its own secret in
the list of sub-devices.
"""

_SUBDEVICE_KIND_WRONG = const(526)
"""SetupError: This device cannot be a sub-device: it is a mirror (719), or a gateway itself (791),
or it logs in by a way that is not a sub-device's (741).

Next: correct the list of sub-devices, or the product's node type.
"""

_SUBDEVICE_REFUSED = const(527)
"""SetupError: EnOS refused something of a sub-device for a reason of its own (1200, 1220 a format,
another number its own); `detail` has its words. What was to be reported of it was dropped.

Next: compare names and types with the sub-device's thing model; report the detail to the
developers.
"""

_SUBDEVICE_DEFERRED = const(528)
"""WeatherError: EnOS cannot take a sub-device's request now (429, 5xx). It is asked again.

Next: wait.
"""

_SUBDEVICE_EXISTS = const(529)
"""SetupError: A sub-device of that device key exists already (11702), and over MQTT its secret
cannot be had.

Next: burn a service account, with which the edge can ask for it, or the secret itself.
"""

_SUBDEVICE_OFFLINE = const(530)
"""SetupError: EnOS took this sub-device for offline when it was reported; it is logged in again.

Next: wait; if it repeats, look whether another edge has the same sub-device.
"""

_SUBDEVICES_TOO_MANY = const(531)
"""SetupError: EnOS takes no more sub-devices through this edge (11739).

Next: spread them over more edges; about 200 can be online through one.
"""

_SUBDEVICE_SECRETLESS = const(532)
"""SetupError: This sub-device has no secret: none is burned, none was issued, and the edge has no
way to get one.

Next: burn its secret in the list, or `subdevice_product_secret`, or `subdevice_registration`.
"""

_GATEWAY_UNANSWERED = const(533)
"""WeatherError: EnOS did not reply to a request about sub-devices; `detail` is the topic. The edge
connects anew.

Next: wait; if it repeats, check the network for loss.
"""


# --- 6xx: reports

_REPORT_REFUSED = const(601)
"""SetupError: The cloud refused a report and would refuse it again; it was dropped. `number` is
the reply code: 460 a wrong parameter, 6207, 1200 or 1220 not JSON or not as it should be, 6300
method missing, 5005 or 6250 the product; or a CoAP code: 400 is 4.00, 404 is 4.04, and so on.

Next: compare the reported names and types with the product's thing model.
"""

_REPORT_DEFERRED = const(602)
"""WeatherError: The cloud cannot take the report now: 429 throttled, 5xx a fault of its own, be it
a reply code or a CoAP code. It is kept.

Next: wait; if 429 repeats, burn a longer `interval_s`.
"""

_DEVICE_DISABLED = const(603)
"""SetupError: The cloud knows this device but it is disabled (6204, EnOS 723) or deleted (6100,
EnOS 705).

Next: enable the device in the console, then power-cycle the unit.
"""

_REPORT_UNANSWERED = const(604)
"""WeatherError: The broker took the report, but the cloud's reply did not come; over CoAP: it is
not JSON, or another message's (`detail`). It is kept and sent again, over CoAP once.

Next: wait; if it repeats, check that the product has a thing model, over CoAP also that `host` is
the cloud's own.
"""

_DOWNLINK_UNUSABLE = const(605)
"""SetupError: The cloud sent what the unit cannot use; `detail` says whether it was too large or
not what is documented. It was dropped, and the unit goes on.

Next: keep the twin's desired properties and messages below 4 kB, and desired properties an object.
"""

_TWIN_REFUSED = const(606)
"""SetupError: The hub refused the reported properties and would refuse them again; they were
dropped. `number` is the status.

Next: look at what `apply` returns: names without `.`, `$` and blanks, 32 kB in all.
"""
