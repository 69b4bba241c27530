"""A device made of the vendor's own SDK, in a process of its own. Run by test_aliyun_sdk.py.

Reads its orders as one JSON object from stdin, so that no secret is in argv, and writes what
happened as one JSON object to stdout. The SDK is not touched: the trust anchor and the port are
handed to `config_mqtt`, and the vendor's host name, which the SDK builds itself and checks against
the certificate, is resolved to loopback as a bench's access point would.

A second line on stdin says that the bench has seen what it waited for.
"""

import json
import queue
import socket
import sys
import warnings

# paho-mqtt 2 warns about the callback style that the SDK was written for.
warnings.simplefilter("ignore", DeprecationWarning)
from linkkit import linkkit  # noqa: E402

WAIT_S = 15
real_getaddrinfo = socket.getaddrinfo
asked = []


def to_loopback(host, *args, **kwargs):
    asked.append(host)
    return real_getaddrinfo("127.0.0.1", *args, **kwargs)


def make(orders, **credentials):
    device = linkkit.LinkKit(
        host_name="cn-shanghai",
        product_key=orders["product_key"],
        device_name=orders["device_name"],
        instance_id=orders.get("instance_id"),
        **{"device_secret": "", **credentials},
    )
    device.config_mqtt(port=orders["port"], cadata=orders["ca"])
    return device


def register(orders):
    """Register by MQTT; returns (code, what was issued)."""
    device = make(orders, product_secret=orders["product_secret"], auth_type=orders["auth_type"])
    answers = queue.Queue()
    if orders["auth_type"] == "regnwl":
        device.on_device_dynamic_register_nwl_reply = lambda *answer: answers.put(answer)
        device.connect_async()
        code, client_id, username, password = answers.get(timeout=WAIT_S)
        return code, {"client_id": client_id, "username": username, "password": password}
    device.on_device_dynamic_register = lambda *answer: answers.put(answer)
    device.connect_async()
    code, secret, _ = answers.get(timeout=WAIT_S)
    return code, {"device_secret": secret}


def report(orders, credentials):
    """Log in, post a property, wait for the platform's reply, answer one property set."""
    device = make(orders, **credentials)
    happened = queue.Queue()
    device.on_connect = lambda session, code, user: happened.put(("connected", code))
    device.on_thing_enable = lambda user: happened.put(("enabled", None))
    device.on_thing_prop_post = lambda request_id, code, data, message, user: happened.put(
        ("posted", code)
    )
    device.on_thing_prop_changed = lambda params, user: happened.put(("set", params))
    device.thing_setup()
    device.connect_async()
    seen = {}

    def until(name):
        while name not in seen:
            key, value = happened.get(timeout=WAIT_S)
            seen[key] = value

    until("connected")
    if seen["connected"] == 0:
        until("enabled")
        device.thing_post_property({"temperature": 21.5})
        until("posted")
        until("set")
        # Not before the bench has the answer: the SDK writes to one TLS connection from three
        # threads without a lock, and two at once spoil a record.
        sys.stdin.readline()
        device.disconnect()
    return seen


def main():
    orders = json.loads(sys.stdin.readline())
    socket.getaddrinfo = to_loopback
    result = {}
    credentials = orders.get("credentials")
    if credentials is None:
        result["code"], credentials = register(orders)
    if result.get("code", 0) == 0:
        result["seen"] = report(orders, credentials)
    print(json.dumps({**result, "asked": sorted(set(asked))}), flush=True)


main()
# The SDK's threads are not daemons and cannot all be ended.
sys.stdout.flush()
__import__("os")._exit(0)
