"""A device made of the vendor's own SDK, in a process of its own. Run by test_azure_sdk.py.

Reads its orders as JSON lines from stdin, so that no secret is in argv, and writes what happened
as JSON lines to stdout. The SDK is not touched: the trust anchor is handed to its clients, and the
vendor's host names, which it checks against the certificate, are resolved to loopback as a
bench's access point would: connections to (name, 8883) go where the first order says.
"""

import json
import queue
import socket
import sys
import threading
import warnings

warnings.simplefilter("ignore")
from azure.iot.device import (  # noqa: E402
    X509,
    IoTHubDeviceClient,
    Message,
    MethodResponse,
    ProvisioningDeviceClient,
)

real_create_connection = socket.create_connection
asked = []
ways = {}


def to_loopback(address, *args, **kwargs):
    asked.append(address[0])
    return real_create_connection(tuple(ways[address[0]]), *args, **kwargs)


def say(**what):
    print(json.dumps(what), flush=True)


def certificate(orders):
    return X509(orders["certificate"], orders["key_file"])


def provision(orders):
    """Register; what the service assigned."""
    common = {
        "provisioning_host": "global.azure-devices-provisioning.net",
        "registration_id": orders["registration_id"],
        "id_scope": orders["id_scope"],
        "server_verification_cert": orders["ca"],
    }
    if "key" in orders:
        client = ProvisioningDeviceClient.create_from_symmetric_key(
            symmetric_key=orders["key"], **common
        )
    else:
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            x509=certificate(orders), **common
        )
    if "payload" in orders:
        client.provisioning_payload = orders["payload"]
    try:
        result = client.register()
    except Exception as error:
        say(did="provision", error=type(error).__name__, detail=f"{error} {error.__cause__!r}")
        return
    state = result.registration_state
    say(
        did="provision",
        status=result.status,
        hub=state.assigned_hub,
        device=state.device_id,
        substatus=state.sub_status,
    )


def make_device(orders):
    options = {"server_verification_cert": orders["ca"]}
    if "sas_ttl_s" in orders:
        options["sastoken_ttl"] = orders["sas_ttl_s"]
    if "connection_string" in orders:
        return IoTHubDeviceClient.create_from_connection_string(
            orders["connection_string"], **options
        )
    if "gateway" in orders:
        options["gateway_hostname"] = orders["gateway"]
    if "key" in orders:
        return IoTHubDeviceClient.create_from_symmetric_key(
            orders["key"], orders["hub"], orders["device"], **options
        )
    return IoTHubDeviceClient.create_from_x509_certificate(
        certificate(orders), orders["hub"], orders["device"], **options
    )


def serve(orders):
    """Be a device until stdin says `end`; a line of JSON is an order."""
    device = make_device(orders)
    patches = queue.Queue()

    def on_method(request):
        say(saw="method", name=request.name, payload=request.payload)
        answer = MethodResponse.create_from_method_request(request, 200, {"echo": request.payload})
        threading.Thread(target=device.send_method_response, args=(answer,)).start()

    def on_message(message):
        say(
            saw="c2d",
            data=message.data.decode(),
            id=message.message_id,
            properties=message.custom_properties,
        )

    device.on_method_request_received = on_method
    device.on_message_received = on_message
    device.on_twin_desired_properties_patch_received = patches.put
    device.on_connection_state_change = lambda: say(saw="connection", on=device.connected)
    try:
        device.connect()
    except Exception as error:
        say(did="connect", error=type(error).__name__, detail=f"{error} {error.__cause__!r}")
        return
    say(did="connect")
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "send":
            message = Message(json.dumps(order["data"]), content_type="application/json")
            message.content_encoding = "utf-8"
            message.custom_properties.update(order.get("properties", {}))
            device.send_message(message)
            say(did="send")
        elif order["do"] == "twin":
            say(did="twin", twin=device.get_twin())
        elif order["do"] == "report":
            device.patch_twin_reported_properties(order["patch"])
            say(did="report")
        elif order["do"] == "patch":
            say(did="patch", patch=patches.get(timeout=15))
        elif order["do"] == "end":
            device.shutdown()
            say(did="end", asked=sorted(set(asked)))
            return


def main():
    orders = json.loads(sys.stdin.readline())
    ways.update(orders["ways"])
    socket.create_connection = to_loopback
    if orders["do"] == "provision":
        provision(orders)
    else:
        serve(orders)


main()
sys.stdout.flush()
# The SDK's threads are not all daemons.
__import__("os")._exit(0)
