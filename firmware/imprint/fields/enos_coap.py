"""The fields of the journey `enos-coap`; imprint.identity says what the tables mean. Pure."""

SHARES = ("wifi_ssid", "wifi_password", "host")

REQUIRED = ("product_key", "secure_mode", "device_key_source", "host", "modem")

FIELDS = {
    "product_key": ("alnum", 1, 32, 0, None),
    "secure_mode": ("choice", (2, 3), 0, 0, None),
    "product_secret": ("alnum", 1, 64, 1, None),
    # Free of "," and "/", which separate what it stands in; SDK for C: 64.
    "device_key": ("name", 1, 64, 0, None),
    "device_key_source": ("choice", ("burned", "imei"), 0, 0, None),
    "device_secret": ("alnum", 1, 64, 1, None),
    # EnOS does not name its DTLS port: this one is RFC 7252's.
    "port": ("int", 1, 65535, 0, 5684),
    "interval_s": ("int", 1, 86400, 0, 900),
    "lifetime_s": ("int", 30, 86400, 0, 3600),
    # CoAP's ACK_TIMEOUT: the first wait for an answer, before the request is repeated.
    "ack_timeout_s": ("int", 1, 60, 0, 20),
    # The modem's dialect; "none": the chip does DTLS itself, over Wi-Fi.
    "modem": ("choice", ("nrf91", "bg95", "sequans", "sara", "none"), 0, 0, None),
    # The one that is offered, where the modem does not offer all and choosing is not left to it.
    "suite": ("choice", ("psk-aes128-ccm-8", "psk-aes128-cbc-sha256"), 0, 0, None),
    "apn": ("host", 1, 100, 0, None),
    "sim_pin": ("digits", 4, 8, 1, None),
    "rat": ("choice", ("nb-iot", "lte-m"), 0, 0, "nb-iot"),
    "band": ("int", 1, 88, 0, None),
}

NEEDS = {
    ("secure_mode", 2): ("device_secret",),
    ("secure_mode", 3): ("product_secret",),
    ("device_key_source", "burned"): ("device_key",),
    ("modem", "none"): ("wifi_ssid",),
}
