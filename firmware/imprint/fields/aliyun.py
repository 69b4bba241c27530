"""The fields of the journey `aliyun`; imprint.identity says what the tables mean. Pure."""

SHARES = (
    "wifi_ssid", "wifi_password", "ntp_host", "interval_s", "host", "port", "root_ca_sha256",
)  # fmt: skip

REQUIRED = ("product_key", "registration", "root_ca_sha256", "wifi_ssid")

# A device name is 4 to 32 letters, digits and -_@.: (RegisterDevice).
FIELDS = {
    "product_key": ("alnum", 1, 32, 0, None),
    "registration": ("choice", ("regnwl", "register", "none"), 0, 0, None),
    "product_secret": ("alnum", 1, 64, 1, None),
    "device_name": ("name", 4, 32, 0, None),
    "device_secret": ("alnum", 1, 64, 1, None),
    "client_id": ("name", 1, 64, 0, None),
    "region": ("host", 1, 32, 0, "cn-shanghai"),
    "instance_id": ("host", 1, 63, 0, None),
    "sign_method": ("choice", ("hmacmd5", "hmacsha1", "hmacsha256"), 0, 0, "hmacsha256"),
    "secure_mode": ("choice", (-2, 2), 0, 0, 2),
}

# (field, value): what else that value asks for.
NEEDS = {
    ("registration", "regnwl"): ("product_secret",),
    ("registration", "register"): ("product_secret",),
    ("registration", "none"): ("device_name", "device_secret"),
}
