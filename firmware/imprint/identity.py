"""What was burned into this unit: parse it, check it, refuse it with a reason.

The tables are literals on purpose: the host's tools read them out of this file, so that the rule
that refuses a bad identity at the bench is the very rule that the board would have applied.
Pure: the caller brings the bytes.
"""

# Which characters a field of that kind may hold. None: any UTF-8.
KINDS = {
    "alnum": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "name": "-.0123456789:@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz",
    "host": "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "hex": "0123456789abcdef",
    "text": None,
    "int": None,
    "choice": None,
}

# field: (kind, least, most, secret). Lengths in bytes; for "int" the range of the value;
# for "choice" `least` is the tuple of choices.
FIELDS = {
    "journey": ("choice", ("aliyun",), 0, 0),
    "wifi_ssid": ("text", 1, 32, 0),
    "wifi_password": ("text", 8, 63, 1),
    "ntp_host": ("host", 1, 253, 0),
    "interval_s": ("int", 1, 86400, 0),
    "root_ca_sha256": ("hex", 64, 64, 0),
    # Aliyun IoT Platform: a device name is 4 to 32 letters, digits and -_@.: (RegisterDevice).
    "product_key": ("alnum", 1, 32, 0),
    "registration": ("choice", ("regnwl", "register", "none"), 0, 0),
    "product_secret": ("alnum", 1, 64, 1),
    "device_name": ("name", 4, 32, 0),
    "device_secret": ("alnum", 1, 64, 1),
    "client_id": ("name", 1, 64, 0),
    "region": ("host", 1, 32, 0),
    "instance_id": ("host", 1, 63, 0),
    "host": ("host", 1, 253, 0),
    "port": ("int", 1, 65535, 0),
    "sign_method": ("choice", ("hmacmd5", "hmacsha1", "hmacsha256"), 0, 0),
    "secure_mode": ("choice", (-2, 2), 0, 0),
}

# journey: (required, optional)
JOURNEYS = {
    "aliyun": (
        ("journey", "product_key", "registration", "root_ca_sha256", "wifi_ssid"),
        (
            "wifi_password", "ntp_host", "interval_s", "product_secret", "device_name",
            "device_secret", "client_id", "region", "instance_id", "host", "port",
            "sign_method", "secure_mode",
        ),
    ),
}  # fmt: skip

# (journey, field, value): what else that value asks for.
NEEDS = {
    ("aliyun", "registration", "regnwl"): ("product_secret",),
    ("aliyun", "registration", "register"): ("product_secret",),
    ("aliyun", "registration", "none"): ("device_name", "device_secret"),
}
