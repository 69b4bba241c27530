"""Which topics a device of Alibaba Cloud's IoT Platform may use: its own, and no one else's. Pure.

Sources: the platform's "Limits" page of 2019 (length, slashes, rights), its SDKs (the names).
"""

from __future__ import annotations

from collections.abc import Mapping

from imprint_tools.localcloud import packets

PUB, SUB, ALL = "PUB", "SUB", "ALL"

USER_TOPICS: Mapping[str, str] = {"update": PUB, "update/error": PUB, "get": SUB}
"""The classes that every product has below `/{productKey}/{deviceName}/user/`."""

_TOPIC_MAX = 128
_USER_SLASHES_MAX = 7


def system(product_key: str, device_name: str) -> str:
    """The beginning of a device's system topics."""
    return f"/sys/{product_key}/{device_name}/"


def user(product_key: str, device_name: str) -> str:
    """The beginning of a device's custom topics."""
    return f"/{product_key}/{device_name}/user/"


def may_publish(
    topic: str, product_key: str, device_name: str, user_topics: Mapping[str, str]
) -> bool:
    own = f"{product_key}/{device_name}"
    if _too_long(topic):
        return False
    if topic.startswith(user(product_key, device_name)):
        return _user_right(topic, product_key, device_name, user_topics, PUB)
    if topic.startswith("/ext/rrpc/"):
        return f"/{own}/" in topic
    if topic in (f"/shadow/update/{own}", f"/ota/device/inform/{own}"):
        return True
    return topic.startswith((system(product_key, device_name), f"/ext/session/{own}/"))


def may_subscribe(
    topic_filter: str, product_key: str, device_name: str, user_topics: Mapping[str, str]
) -> bool:
    """Wildcards may stand only after the device's own names."""
    own = f"{product_key}/{device_name}"
    if _too_long(topic_filter):
        return False
    if topic_filter.startswith(user(product_key, device_name)):
        return _user_right(topic_filter, product_key, device_name, user_topics, SUB)
    if topic_filter.startswith("/ext/rrpc/+/"):
        return topic_filter.removeprefix("/ext/rrpc/+").startswith(
            (system(product_key, device_name), user(product_key, device_name))
        )
    if topic_filter in (f"/shadow/get/{own}", f"/ota/device/upgrade/{own}"):
        return True
    return topic_filter.startswith(
        (system(product_key, device_name), f"/ext/session/{own}/", f"/broadcast/{product_key}/")
    )


def _too_long(topic: str) -> bool:
    return len(topic.encode("utf-8", "surrogatepass")) > _TOPIC_MAX


def _user_right(
    topic: str,
    product_key: str,
    device_name: str,
    user_topics: Mapping[str, str],
    wanted: str,
) -> bool:
    if topic.count("/") > _USER_SLASHES_MAX:
        return False
    name = topic.removeprefix(user(product_key, device_name))
    return any(
        right in (wanted, ALL) and (name == known or packets.matches(known, name))
        for known, right in user_topics.items()
    )
