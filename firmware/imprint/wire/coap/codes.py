"""CoAP's numbers by their names: RFC 7252, RFC 7959.

For whoever talks CoAP through `net.coap_client`. The firmware's own modules repeat the few that
they need as `_NAME = const(n)`, which leaves nothing in a board's memory; a test compares.
"""

from micropython import const

# 3: types
CON = const(0)
NON = const(1)
ACK = const(2)
RST = const(3)

# 12.1: codes, class << 5 | detail
EMPTY = const(0)
GET = const(1)
POST = const(2)
PUT = const(3)
DELETE = const(4)
CONTINUE = const(0x5F)  # 2.31, RFC 7959
REQUEST_ENTITY_TOO_LARGE = const(0x8D)  # 4.13

# 5.10, and RFC 7959: option numbers
ETAG = const(4)
URI_PATH = const(11)
CONTENT_FORMAT = const(12)
URI_QUERY = const(15)
BLOCK2 = const(23)
BLOCK1 = const(27)

# 4.6: 1152 bytes of message and 1024 of payload where nothing is known of the path. We take what
# fits into the IPv6 minimum MTU of 1280, and send no more than the advice.
SEND_MAX = const(1152)
RECEIVE_MAX = const(1280)
