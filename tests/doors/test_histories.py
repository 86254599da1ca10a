"""Clients with random keys, workers that are killed and connections that are cut: no anomaly in what they saw.

``HISTORY_SECONDS`` is how long: 20 on each database are the dose for each change.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Order
from example_project.stage import Answer, gunicorn
from tests.conftest import Parallel
from tests.cutter import Cutter, cutter
from tests.doors.live import Customer, by_token, environment
from tests.history import Seen, anomalies
from tests.proofs import dose, note

SECONDS = dose("HISTORY_SECONDS", 20)
CLIENTS, FRESH = 8, 12
POINTS = [
    "before SELECT django_idempotency_idempotencyrecord 1",
    "after INSERT shop_order 1",
    "before INSERT django_idempotency_idempotencyrecord 1",
    "after UPDATE django_idempotency_idempotencyrecord 1",
    "before COMMIT 1",
    "after COMMIT 1",
    "before the answer 1",
]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(SECONDS + 300),
    pytest.mark.processes,
]


@dataclass
class Play:
    """A running shop, its clients, and what they have seen."""

    port: int
    folder: Path
    proxy: Cutter | None
    customer: Customer = field(default_factory=Customer)
    seen: list[Seen] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    turns: Iterator[int] = field(default_factory=itertools.count)

    def send(self, key: str, fault: str = "") -> Answer:
        """Send a request; the element is the order's number."""
        asked = time.monotonic()
        answer = self.order(key, fault)
        element = json.loads(answer.body)["id"] if answer.status == 201 else None
        self.seen.append(Seen(key, asked, time.monotonic(), element, answer.replayed))
        self.statuses[answer.status] += 1
        return answer

    def order(self, key: str, fault: str) -> Answer:
        send = by_token("/api/orders/", lambda customer: {"product": customer.product.pk, "note": key})
        return send(self.port, self.customer, key, fault)

    def act(self, name: str, until: float) -> None:
        """Be a client: ask for one of the newest keys, new or used, now and then with an accident."""
        chance = random.Random(name)
        while time.monotonic() < until:
            turn = next(self.turns)
            fault = ""
            if chance.random() < 0.02:
                fault = f"at {chance.choice(POINTS)} {self.folder / f'{turn}'}"
            elif self.proxy and chance.random() < 0.05:
                self.proxy.arm(chance.choice(["before", "after"]))
            self.send(f"k{max(0, turn // 4 - chance.randrange(FRESH))}", fault)

    def settle(self) -> None:
        """Retry every key that was ever asked for until it is answered."""
        for key in {each.key for each in self.seen}:
            deadline = time.monotonic() + 30
            while self.send(key).status != 201:
                assert time.monotonic() < deadline, f"{key} is never answered"

    def kills(self) -> int:
        return sum(1 for _ in self.folder.iterdir())


@pytest.fixture
def play(transactional_db: None, tmp_path: Path) -> Iterator[Play]:
    """Serve the shop with several workers, which reach the database through the proxy where it has a socket."""
    (tmp_path / "killed").mkdir()
    with ExitStack() as stack:
        host, proxy = str(connection.settings_dict["HOST"]), None
        if host:
            proxy = stack.enter_context(cutter(host))
            host = proxy.host
        own = environment(DATABASE_HOST=host)
        port = stack.enter_context(gunicorn(own, tmp_path / "gunicorn.log", threads=4))
        yield Play(port, tmp_path / "killed", proxy)


def test_history_has_no_anomaly(play: Play, parallel: Parallel) -> None:
    until = time.monotonic() + SECONDS
    clients = [threading.Thread(target=play.act, args=[f"{name}", until]) for name in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if play.proxy:
        play.proxy.disarm()
    play.settle()
    effects = defaultdict(list)
    for key, number in Order.objects.values_list("note", "pk"):
        effects[key].append(number)
    finished = set(IdempotencyRecord.objects.completed().values_list("key", flat=True))
    found = anomalies(play.seen, effects, finished)
    cuts = sum(play.proxy.cuts.values()) if play.proxy else 0
    assert found == set()
    assert len(effects) > SECONDS
    assert play.kills() >= SECONDS // 15
    assert cuts or not play.proxy
    figures = {"seconds": SECONDS, "clients": CLIENTS, "keys": len(effects), "operations": len(play.seen)}
    answers = {str(status): count for status, count in sorted(play.statuses.items())}
    note("histories", **figures, kills=play.kills(), cuts=cuts, answers=answers, anomalies=len(found))
