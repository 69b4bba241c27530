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
    # The service account of an application, and the organisation that the sub-devices belong to.
    "api_host": ("host", 1, 253, 0, None),
    "api_port": ("int", 1, 65535, 0, 443),
    "access_key": ("name", 1, 64, 0, None),
    "access_secret": ("name", 1, 64, 1, None),
    "org_id": ("name", 1, 64, 0, None),
    "subdevice_product_key": ("alnum", 1, 32, 0, None),
    "subdevice_product_secret": ("alnum", 1, 64, 1, None),
}

NEEDS = {
    ("secure_mode", 2): ("device_secret",),
    ("secure_mode", 3): ("product_secret",),
}
