"""A gateway made of the vendor's own Python SDK, in a process of its own. Run by test_enos_sdk.py.

Reads its orders as one JSON object from stdin, so that no secret is in argv, and writes what
happened as one JSON object to stdout. The SDK is not touched: the port is in the address that it
is given, and the vendor's host name is resolved to loopback as a bench's access point would.

Each further line on stdin says that the bench has seen what it waited for.
"""

import json
import queue
import socket
import sys

from enos.core.internal.Profile import Profile
from enos.core.login.DynamicActivationLogin import DynamicActivationLogin
from enos.core.message.IConnectCallback import IConnectCallback
from enos.core.MqttClient import MqttClient
from enos.core.util.StringI18n import StringI18n
from enos.message.downstream.device.SubDeviceDisableCommand import SubDeviceDisableCommand
from enos.message.downstream.device.SubDeviceDisableReply import SubDeviceDisableReply
from enos.message.downstream.tsl.MeasurepointSetCommand import MeasurepointSetCommand
from enos.message.downstream.tsl.MeasurepointSetReply import MeasurepointSetReply
from enos.message.upstream.register.DeviceRegisterRequest import DeviceRegisterRequest
from enos.message.upstream.resume.MeasurepointResumeRequest import MeasurepointResumeRequest
from enos.message.upstream.status.SubDeviceLoginBatchRequest import SubDeviceLoginBatchRequest
from enos.message.upstream.status.SubDeviceLoginRequest import SubDeviceLoginRequest
from enos.message.upstream.status.SubDeviceLogoutRequest import SubDeviceLogoutRequest
from enos.message.upstream.tag.TagQueryRequest import TagQueryRequest
from enos.message.upstream.tag.TagUpdateRequest import TagUpdateRequest
from enos.message.upstream.topo.SubDeviceInfo import SubDeviceInfo
from enos.message.upstream.topo.TopoAddRequest import TopoAddRequest
from enos.message.upstream.topo.TopoDeleteRequest import TopoDeleteRequest
from enos.message.upstream.topo.TopoGetRequest import TopoGetRequest
from enos.message.upstream.tsl.AttributeQueryRequest import AttributeQueryRequest
from enos.message.upstream.tsl.AttributeUpdateRequest import AttributeUpdateRequest
from enos.message.upstream.tsl.EventPostRequest import EventPostRequest
from enos.message.upstream.tsl.MeasurepointPostBatchRequest import MeasurepointPostBatchRequest
from enos.message.upstream.tsl.MeasurepointPostRequest import MeasurepointPostRequest

WAIT_S = 15
real_getaddrinfo = socket.getaddrinfo


def to_loopback(_host, *args, **kwargs):
    return real_getaddrinfo("127.0.0.1", *args, **kwargs)


def connected(client, wait_s=WAIT_S):
    """Connect, and tell whether that went well.

    By callback: the way without one misses a CONNACK that is faster than it, and waits in vain.
    """
    client.get_profile().set_auto_reconnect(False)
    happened = queue.Queue()
    callback = IConnectCallback()
    callback.on_connect = lambda: happened.put(True)
    client.connect(callback)
    try:
        return happened.get(timeout=wait_s)
    except queue.Empty:
        return client.is_connected()


def points(pk=None, dk=None, **values):
    builder = MeasurepointPostRequest.builder()
    for name, value in values.items():
        builder.add_measurepoint(name, value)
    if pk is not None:
        builder.set_product_key(pk).set_device_key(dk)
    return builder.set_timestamp(1548753362502).build()


class Gateway:
    def __init__(self, orders):
        self.orders = orders
        self.said = {}
        self.commands = queue.Queue()
        secret = orders["device_secret"]
        names = (orders["product_key"], orders["device_key"])
        self.client = MqttClient(orders["url"], *names, secret)
        method = orders.get("sign_method")
        if method is not None:
            self.client.get_profile().set_sign_method(method)
        if "ca" in orders:
            profile = self.client.get_profile()
            profile.set_ssl_context(orders["ca"], orders["certificate"], orders["key"])

    def ask(self, name, request):
        """Publish, wait for the reply, and note its code and data."""
        reply = self.client.publish(request)
        self.said[name] = [reply.get_code(), reply.get_data()]
        return reply

    def bring_up(self):
        """The samples' order: register, bind, log in, post."""
        pk = self.orders["subdevice_product_key"]
        name = StringI18n("meter one")
        name.set_localized_value("en_US", "meter one")
        register = DeviceRegisterRequest.builder().add_register_information(
            pk, "meter-1", name, "made by the SDK", "+08:00", {"site": "north"}
        )
        self.client.register_arrived_message_handler(
            MeasurepointSetCommand.get_class(), self.on_set
        )
        self.client.register_arrived_message_handler(
            SubDeviceDisableCommand.get_class(), self.on_disable
        )
        made = self.ask("register", register.build()).get_data()[0]
        sub = (pk, made["deviceKey"], made["deviceSecret"])
        del self.said["register"]
        self.ask("add", TopoAddRequest.builder().add_sub_device(SubDeviceInfo(*sub)).build())
        self.ask("get", TopoGetRequest.builder().build())
        self.ask("login", SubDeviceLoginRequest.builder().set_sub_device_info(*sub).build())
        self.ask("post for it", points(*sub[:2], temp=1.02))
        return sub

    def report(self, sub):
        """All that a gateway says of itself and of others."""
        self.ask("post", points(temp=3))
        batch = MeasurepointPostBatchRequest.builder()
        batch.add_request(points(*sub[:2], temp=4)).add_request(points(speed=5))
        self.ask("batch", batch.build())
        late = MeasurepointResumeRequest.builder().add_measure_point("temp", 9)
        self.ask("resume", late.set_timestamp(1000).build())
        event = EventPostRequest.builder().set_event_identifier("hot").add_value("temp", 99)
        self.ask("event", event.build())
        self.ask("attributes", AttributeUpdateRequest.builder().add_attribute("a", 1).build())
        self.ask("attributes again", AttributeQueryRequest.builder().query_all().build())
        self.ask("tags", TagUpdateRequest.builder().add_tag("row", "7").build())
        self.ask("tags again", TagQueryRequest.builder().query_all().build())

    def obey(self):
        """One measurepoint set; one command without a handler is the SDK's own business."""
        self.said["set"] = self.commands.get(timeout=WAIT_S)
        sys.stdin.readline()

    def part(self, sub):
        """Out, in again by a batch, disabled by the cloud, and out of the topology."""
        out = SubDeviceLogoutRequest.builder().set_sub_product_key(sub[0])
        self.ask("logout", out.set_sub_device_key(sub[1]).build())
        again = SubDeviceLoginBatchRequest.builder().add_sub_device_info(*sub)
        reply = self.client.publish(again.build())
        data = reply.get_data()  # the SDK's own way to read it fails
        self.said["login batch"] = [reply.get_code(), len(data["loginedSubDevices"])]
        print(json.dumps({"waits": "disable"}), flush=True)
        self.said["disable"] = self.commands.get(timeout=WAIT_S)
        sys.stdin.readline()
        self.ask("delete", TopoDeleteRequest.builder().delete_sub_device(*sub[:2]).build())

    def on_set(self, message, arguments):
        self.commands.put([*arguments, message.get_params()])
        return MeasurepointSetReply().builder().set_code(200).set_message("set").build()

    def on_disable(self, message, _arguments):
        self.commands.put(message.get_params())
        return SubDeviceDisableReply().builder().set_code(200).set_message("ok").build()


def activate(orders):
    """Log in with the product's secret; what the SDK hands to its user is the device's."""
    issued = queue.Queue()
    names = (orders["product_key"], orders["product_secret"], orders["device_key"])
    client = MqttClient(
        profile=Profile.create_instance(DynamicActivationLogin(orders["url"], *names))
    )
    client.on_device_dynamic_active = issued.put
    if not connected(client):
        return None
    secret = issued.get(timeout=WAIT_S)
    sys.stdin.readline()
    client.close()
    return secret


def main():
    orders = json.loads(sys.stdin.readline())
    socket.getaddrinfo = to_loopback
    result = {}
    if "product_secret" in orders:
        orders["device_secret"] = activate(orders)
        result["activated"] = orders["device_secret"] is not None
    if orders["device_secret"] is not None:
        gateway = Gateway(orders)
        result["connected"] = connected(gateway.client, orders.get("wait_s", WAIT_S))
        if result["connected"] and "subdevice_product_key" in orders:
            sub = gateway.bring_up()
            gateway.report(sub)
            print(json.dumps({"waits": "set"}), flush=True)
            gateway.obey()
            gateway.part(sub)
        result["said"] = gateway.said
    print(json.dumps(result), flush=True)


main()
# The SDK's threads are not daemons and cannot all be ended.
sys.stdout.flush()
__import__("os")._exit(0)
