"""What an application and a driver of one's own say through an EnOS edge, and are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_bench import GATEWAY_DK, GATEWAY_PK, SUB_PK, EdgeBench
from journey_bench import flash_content

APPLICATION = b"""\
_happened = [("started", {"cause": 1}), ("door", {"open": 1})]


def read():
    return {"up": 1}


def event():
    return _happened.pop(0) if _happened else None


def attributes():
    return {"firmware": "1.2"}


def tags():
    return {"site": "roof"}


def method(name, value):
    if name != "echo":
        raise KeyError(name)
    return {"said": value["word"]}
"""

DRIVER = b"""\
class Driver:
    def __init__(self, points, bus, feed):
        self.point = points[0]
        self.happened = {2: ("alarm", {"level": 3})}
        self.polls = 0

    def poll(self, address):
        if address == 1:
            self.polls += 1
            if self.polls % 4 == 0:
                self.happened[1] = ("fourth", {"polls": self.polls})
        return {self.point: address}

    def command(self, address, name, params):
        if name != "reset":
            raise KeyError(name)
        self.happened[2] = ("was_reset", params)
        return {"at": address}

    def event(self, address):
        return self.happened.pop(address, None)

    def attributes(self, address):
        return {"serial": "S%d" % address}

    def tags(self, address):
        return {"row": str(address)}
"""
FILES = {"application.py": APPLICATION, "imprint/drivers/mine.py": DRIVER}
TABLES = {"own": {"driver": "mine", "own": True, "points": ["level"]}}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[EdgeBench]:
    entries = [{"device_key": f"m-{at}", "table": "own", "address": at} for at in (1, 2)]
    content = flash_content(FILES)
    with EdgeBench(tmp_path, content, subdevices=entries, tables=TABLES) as bench:
        bench.board.power_on()
        bench.all_online(2)
        bench.reported()
        yield bench


def happened(edge: EdgeBench, key: str, product_key: str = SUB_PK) -> list[tuple[str, Any]]:
    return [(e["id"], e["fields"]) for e in edge.device(key, product_key)["events"]]


def test_said(edge: EdgeBench) -> None:
    """Events come with the report after they happened, each once, of whom they are; attributes
    and tags with each login."""
    edge.reported()
    assert happened(edge, GATEWAY_DK, GATEWAY_PK) == [
        ("started", {"cause": 1}), ("door", {"open": 1}),
    ]  # fmt: skip
    assert happened(edge, "m-2") == [("alarm", {"level": 3})]
    me, other = edge.device(GATEWAY_DK, GATEWAY_PK), edge.device("m-2")
    assert (me["attributes"], me["tags"]) == ({"firmware": "1.2"}, {"site": "roof"})
    assert (other["attributes"], other["tags"]) == ({"serial": "S2"}, {"row": "2"})
    assert me["measurepoints"]["up"]["value"] == 1
    assert other["measurepoints"]["level"]["value"] == 2


def test_told(edge: EdgeBench) -> None:
    """Services are the application's methods, and the driver's commands; an event that follows
    from one is told."""
    cases: list[tuple[str, str, str, dict[str, Any], int]] = [
        (GATEWAY_PK, GATEWAY_DK, "echo", {"word": "hi"}, 200),
        (GATEWAY_PK, GATEWAY_DK, "sing", {}, 1101),
        (SUB_PK, "m-1", "reset", {"hard": 1}, 200),
        (SUB_PK, "m-1", "sing", {}, 1101),
    ]
    data = []
    for product_key, key, service, params, code in cases:
        number = edge.cloud.invoke(product_key, key, service, params)
        reply = edge.cloud.event_log.wait("command-reply", id=number, code=code, timeout_s=20)
        data.append(reply.get("data"))
    assert (data[0], data[2]) == ({"said": "hi"}, {"at": 1})
    edge.reported()
    edge.reported()
    assert happened(edge, "m-2")[-1] == ("was_reset", {"hard": 1})


def test_said_later(edge: EdgeBench) -> None:
    """What happens while there is no connection is told when there is one again, and none of it
    is lost with the power."""
    edge.cloud.stop()
    edge.error(304)  # the first attempt of four in two minutes
    edge.cloud.start()
    edge.wait("online")
    edge.all_online(2)
    told: list[int] = []
    while len(set(told)) < 3:
        edge.reported()
        told = [fields["polls"] for what, fields in happened(edge, "m-1") if what == "fourth"]
    assert sorted(set(told)) == list(range(4, 4 * len(set(told)) + 1, 4))


def test_refused(tmp_path: Path) -> None:
    """What the cloud refuses of the edge itself is told as the edge's own, and of a sub-device as
    that one's; both report all the same."""
    files = {
        "application.py": APPLICATION.replace(b'"site"', b'"s" * 51'),
        "imprint/drivers/mine.py": DRIVER.replace(b'"row"', b'"r" * 51'),
    }
    entries = [{"device_key": "m-1", "table": "own", "address": 1}]
    with EdgeBench(tmp_path, flash_content(files), subdevices=entries, tables=TABLES) as edge:
        edge.board.power_on()
        assert edge.error(601).data["number"] == 1220
        refused = edge.error(527)
        assert refused.data["number"] == 1220 and refused.data["detail"].startswith("m-1")
        edge.all_online(1)
        edge.reported()
        assert edge.device("m-1")["attributes"] == {"serial": "S1"}
