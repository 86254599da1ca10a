"""Nodes of a Galera cluster killed in the middle of load: one, and so many that the rest is no majority.

``GALERA_KILLS`` is how often a node is killed: the default is the dose of CI.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Iterator

import pytest

from tests import views
from tests.conftest import Parallel
from tests.galera.cluster import NODES
from tests.galera.conftest import Answer, Clients, Door, through_function, through_view
from tests.proofs import dose, milliseconds, note

KILLS = dose("GALERA_KILLS", 2)
CROWD = 2 * NODES
AFTERWARDS = 20

pytestmark = [
    pytest.mark.galera,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(180 + 60 * KILLS),
    # PyMySQL forgets the socket of a connection that was refused.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def sockets_collected() -> Iterator[None]:
    yield
    gc.collect()


class Load:
    """A crowd that sends new keys to all nodes, and each key to node after node until it is answered."""

    def __init__(self, clients: Clients, name: str) -> None:
        self.clients, self.name = clients, name
        self.told: dict[str, Answer] = {}
        #: How long the keys took that were refused at first.
        self.waits: list[float] = []
        self.refused = 0
        self.is_over = threading.Event()

    def run(self, number: int) -> None:
        door: Door = (through_view, through_function)[number % 2]
        for turn in range(10**6):
            if self.is_over.is_set():
                return
            self.answer(door, number, f"{self.name}-{number}-{turn}")

    def answer(self, door: Door, number: int, key: str) -> None:
        started, refused = time.monotonic(), 0
        while (answer := self.send(door, number + refused, key)).status != 201:
            refused += 1
            assert time.monotonic() - started < 60
        if refused:
            self.waits.append(time.monotonic() - started)
        self.refused += refused
        self.told[key] = answer

    def send(self, door: Door, number: int, key: str) -> Answer:
        return self.clients.send(door, self.clients.cluster.nodes[number % NODES], key)

    def reaches(self, count: int) -> None:
        """Wait until so many keys are answered."""
        deadline = time.monotonic() + 60
        while len(self.told) < count:
            assert time.monotonic() < deadline, len(self.told)
            time.sleep(0.001)


def test_killed_node_loses_nothing_acknowledged_and_each_key_has_one_effect(
    clients: Clients, parallel: Parallel
) -> None:
    nodes, waits, keys, refused = clients.cluster.nodes, [], 0, 0
    told: set[int | None] = set()
    for kill in range(KILLS):
        load, victim = Load(clients, f"k{kill}"), kill % NODES
        ends = [parallel.start(load.run, number) for number in range(CROWD)]
        load.reaches(random.randrange(1, 60))
        nodes[victim].kill()
        load.reaches(len(load.told) + AFTERWARDS)
        load.is_over.set()
        for end in ends:
            end()
        clients.cluster.bring_back(nodes[victim])
        for number, (key, first) in enumerate(load.told.items()):
            door: Door = (through_view, through_function)[int(key.split("-")[1]) % 2]
            again = clients.send(door, nodes[(victim + number % 2) % NODES], key)
            assert again == Answer(201, first.effect, replayed=True)
        told |= {answer.effect for answer in load.told.values()}
        waits += load.waits
        keys, refused = keys + len(load.told), refused + load.refused
        assert len(told) == keys, "two keys have one answer"
    for node in nodes:
        assert clients.effects(node) == sorted(told)
    assert waits, "no request was ever lost"
    ran = {"kills": KILLS, "keys": keys, "runs": len(clients.runs), "refused": refused}
    note("nodes", **ran, duplicates=0, lost=0, **milliseconds(waits))


def test_without_a_majority_nothing_runs_and_afterwards_the_keys_work(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    survivor, *others = clients.cluster.nodes
    first, effect = clients.send(through_view, survivor, "before"), views.effect

    def accident() -> int:
        number = effect()
        for node in others:
            node.kill()
        return number

    with monkeypatch.context() as patch:
        patch.setattr(views, "effect", accident)
        lost = clients.send(through_view, survivor, "meanwhile")
    assert lost == Answer(503)
    assert "unknown" in lost.detail
    runs = len(clients.runs)
    for key in ("before", "meanwhile", "after"):
        for door in (through_view, through_function):
            refused = clients.send(door, survivor, key)
            assert refused == Answer(503)
            assert "nothing was executed" in refused.detail
    assert len(clients.runs) == runs
    clients.cluster.bring_back(*others)
    assert clients.send(through_view, others[0], "before") == Answer(201, first.effect, replayed=True)
    later = [clients.send(through_view, others[1], key).effect for key in ("meanwhile", "after")]
    for node in clients.cluster.nodes:
        assert clients.effects(node) == sorted({first.effect, *later})
