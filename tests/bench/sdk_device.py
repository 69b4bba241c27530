"""A device made of the vendor's own SDK, which does once what a unit does at its first boot.

Registers (regnwl), logs in with the token, posts one property and waits for the platform's reply.
Run by telemetry.py: reads its orders as one JSON object from stdin, so that no secret is in argv,
and writes moments of time.perf_counter() as one to stdout, which is one clock for all processes
of a Linux machine. The SDK is not touched: port and trust anchor are handed to `config_mqtt`, and
the vendor's host name, which it builds and verifies itself, is resolved to loopback.
"""

import time

moments = {"started": time.perf_counter()}

import json  # noqa: E402
import os  # noqa: E402
import queue  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402

from linkkit import linkkit  # noqa: E402

moments["imported"] = time.perf_counter()

WAIT_S = 20
real_getaddrinfo = socket.getaddrinfo


def to_loopback(host, *args, **kwargs):
    return real_getaddrinfo("127.0.0.1", *args, **kwargs)


def make(orders, **credentials):
    device = linkkit.LinkKit(
        host_name=orders["region"],
        product_key=orders["product_key"],
        device_name=orders["device_name"],
        device_secret="",
        **credentials,
    )
    device.config_mqtt(port=orders["port"], cadata=orders["ca"])
    return device


def register(orders):
    """Returns what the platform issued."""
    answers = queue.Queue()
    device = make(orders, product_secret=orders["product_secret"], auth_type="regnwl")
    device.on_device_dynamic_register_nwl_reply = lambda *answer: answers.put(answer)
    device.connect_async()
    code, client_id, username, password = answers.get(timeout=WAIT_S)
    if code != 0:
        raise RuntimeError(f"registration: {code}")
    return {"client_id": client_id, "username": username, "password": password}


def report(orders, credentials):
    """Returns when the platform has replied to the post."""
    device = make(orders, **credentials)
    happened = queue.Queue()
    device.on_connect = lambda session, code, user: happened.put(("connected", code))
    device.on_thing_enable = lambda user: happened.put(("enabled", 0))
    device.on_thing_prop_post = lambda request_id, code, data, message, user: happened.put(
        ("posted", code)
    )
    device.thing_setup()
    device.connect_async()
    for name, good in (("connected", 0), ("enabled", 0), ("posted", 200)):
        if (found := happened.get(timeout=WAIT_S)) != (name, good):
            raise RuntimeError(f"{found} where {name} was to come")
        if name == "enabled":
            device.thing_post_property({"temperature": 21.5})


def main():
    orders = json.loads(sys.stdin.readline())
    socket.getaddrinfo = to_loopback
    credentials = register(orders)
    moments["registered"] = time.perf_counter()
    report(orders, credentials)
    moments["reported"] = time.perf_counter()
    print(json.dumps(moments), flush=True)


main()
# The SDK's threads are not daemons and cannot all be ended.
os._exit(0)
