"""A device made of the vendor's own SDK, which does once what a unit does at its first boot.

Registers with X.509, connects to its hub, sends a message and waits until it is acknowledged. Run
by provisioning.py: reads its orders as one JSON object from stdin and writes moments of
time.perf_counter() as one to stdout. The SDK is not touched: the trust anchor is handed to its
clients, and the vendor's host names, which it verifies itself, are resolved to loopback.
"""

import time

moments = {"started": time.perf_counter()}

import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402

warnings.simplefilter("ignore")
from azure.iot.device import (  # noqa: E402
    X509,
    IoTHubDeviceClient,
    Message,
    ProvisioningDeviceClient,
)

moments["imported"] = time.perf_counter()

real_create_connection = socket.create_connection


def main():
    orders = json.loads(sys.stdin.readline())

    def to_loopback(address, *args, **kwargs):
        return real_create_connection(("127.0.0.1", orders["ports"][address[0]]), *args, **kwargs)

    socket.create_connection = to_loopback
    proof = X509(orders["certificate"], orders["key"])
    provisioning = ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=orders["host"],
        registration_id=orders["name"],
        id_scope=orders["id_scope"],
        x509=proof,
        server_verification_cert=orders["ca"],
    )
    state = provisioning.register().registration_state
    moments["registered"] = time.perf_counter()
    client = IoTHubDeviceClient.create_from_x509_certificate(
        x509=proof,
        hostname=state.assigned_hub,
        device_id=state.device_id,
        server_verification_cert=orders["ca"],
    )
    client.connect()
    client.send_message(Message('{"temperature":21.5}'))  # returns at the PUBACK
    moments["reported"] = time.perf_counter()
    print(json.dumps(moments), flush=True)


main()
# What is left of it need not be waited for.
os._exit(0)
