"""The fields of the journey `enos-gateway`; imprint.identity says what the tables mean. Pure."""

SHARES = (
    "wifi_ssid", "wifi_password", "ntp_host", "interval_s", "host", "root_ca_sha256",
    "client_cert_sha256", "client_key_sha256",
)  # fmt: skip

REQUIRED = ("product_key", "device_key", "secure_mode", "host", "root_ca_sha256", "wifi_ssid")

FIELDS = {
    "product_key": ("alnum", 1, 32, 0, None),
    "device_key": ("name", 1, 64, 0, None),
    "secure_mode": ("choice", (2, 3), 0, 0, None),
    "product_secret": ("alnum", 1, 64, 1, None),
    "device_secret": ("alnum", 1, 64, 1, None),
    "port": ("int", 1, 65535, 0, 18883),
    # Of TLS client authentication: none; the burned one; one that the edge applies for itself,
    # for the key and the request (CSR) that lie beside the identity.
    "certificate": ("choice", ("none", "burned", "apply"), 0, 0, "none"),
    "client_csr_sha256": ("hex", 64, 64, 0, None),
    # Above the product's maximum it is refused; absent, it is the product's default.
    "certificate_days": ("int", 1, 3650, 0, None),
    # The service account of an application, and the organisation that the sub-devices belong to.
    "api_host": ("host", 1, 253, 0, None),
    "api_port": ("int", 1, 65535, 0, 443),
    "access_key": ("name", 1, 64, 0, None),
    "access_secret": ("name", 1, 64, 1, None),
    "org_id": ("name", 1, 64, 0, None),
    # The list of them lies beside the identity (imprint.subdevices), a long one in parts. Who has
    # no secret there is created by the edge, over REST or MQTT, or exists and is activated with
    # its product's secret.
    "subdevices_sha256": ("hex", 64, 64, 0, None),
    "subdevices2_sha256": ("hex", 64, 64, 0, None),
    "subdevices3_sha256": ("hex", 64, 64, 0, None),
    "subdevices4_sha256": ("hex", 64, 64, 0, None),
    "subdevice_registration": ("choice", ("none", "rest", "mqtt"), 0, 0, "none"),
    "subdevice_product_key": ("alnum", 1, 32, 0, None),
    "subdevice_product_secret": ("alnum", 1, 64, 1, None),
    "timezone": ("text", 6, 6, 0, "+00:00"),
}

NEEDS = {
    ("secure_mode", 2): ("device_secret",),
    ("secure_mode", 3): ("product_secret",),
    ("certificate", "burned"): ("client_cert_sha256", "client_key_sha256"),
    ("certificate", "apply"): (
        "client_key_sha256", "client_csr_sha256", "api_host", "access_key", "access_secret",
        "org_id",
    ),
    ("subdevice_registration", "rest"): (
        "subdevice_product_key", "api_host", "access_key", "access_secret", "org_id",
    ),
    ("subdevice_registration", "mqtt"): ("subdevice_product_key",),
}  # fmt: skip
