"""The fields of the journey `azure-dps`; imprint.identity says what the tables mean. Pure."""

SHARES = (
    "wifi_ssid", "wifi_password", "ntp_host", "port", "root_ca_sha256", "client_cert_sha256",
    "client_key_sha256",
)  # fmt: skip

REQUIRED = ("id_scope", "registration_id", "attestation", "root_ca_sha256", "wifi_ssid")

FIELDS = {
    "id_scope": ("alnum", 1, 32, 0, None),
    # Letters, digits and -._: (DPS); with X.509 it is the certificate's CN, so 64 at most.
    "registration_id": ("id", 1, 128, 0, None),
    "attestation": ("choice", ("x509", "symmetric-key"), 0, 0, None),
    # The enrolment's own key, or the one that is derived from a group's for this unit.
    "symmetric_key": ("base64", 4, 128, 1, None),
    "host": ("host", 1, 253, 0, "global.azure-devices-provisioning.net"),
    "interval_s": ("int", 1, 86400, 0, 5),
    # What a token lives, between renewals at 4/5 of it.
    "sas_ttl_s": ("int", 15, 31536000, 0, 3600),
}

NEEDS = {
    ("attestation", "x509"): ("client_cert_sha256", "client_key_sha256"),
    ("attestation", "symmetric-key"): ("symmetric_key",),
}
