"""The fields of the journey `azure-edge`; imprint.identity says what the tables mean. Pure."""

SHARES = (
    "wifi_ssid", "wifi_password", "ntp_host", "port", "root_ca_sha256", "client_cert_sha256",
    "client_key_sha256",
)  # fmt: skip

REQUIRED = ("connection_string", "root_ca_sha256", "wifi_ssid")

FIELDS = {
    # As the portal gives it, with GatewayHostName for a device behind a gateway.
    "connection_string": ("text", 1, 512, 1, None),
    "interval_s": ("int", 1, 86400, 0, 5),
    # What a token lives, between renewals at 4/5 of it.
    "sas_ttl_s": ("int", 15, 31536000, 0, 3600),
}

NEEDS = {}  # type: dict[tuple[str, object], tuple[str, ...]]
