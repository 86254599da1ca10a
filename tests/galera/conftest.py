"""The cluster, and clients each of which is connected to one of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from django.core.management import call_command
from django.db import close_old_connections, connection
from django.test import Client

from django_idempotency.exceptions import InProgress, StoreUnavailable
from django_idempotency.execution import execute_once
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests import views
from tests.galera.cluster import Cluster, Node, cluster
from tests.servers import DATABASE, ServerMissing

CURRENT = "SET SESSION wsrep_sync_wait=1"


@dataclass(frozen=True)
class Answer:
    """What a client was told: the number of the effect, or None, and whether it is the answer to an earlier request."""

    status: int
    effect: int | None = None
    replayed: bool = False
    detail: str = field(default="", compare=False)


Door = Callable[[str], Answer]


def through_view(key: str) -> Answer:
    """Send a request to a view of Django REST framework."""
    response = Client(headers={"Idempotency-Key": key}).post("/probe/201/", b"{}", "application/json")
    if response.status_code == 201:
        return Answer(201, response.json()["id"], "Idempotent-Replayed" in response.headers)
    assert response.headers["Retry-After"] == "1"
    return Answer(response.status_code, detail=response.json()["detail"])


def through_function(key: str) -> Answer:
    """Call a function once."""
    ran: list[int] = []

    def function() -> int:
        ran.append(views.effect())
        return ran[-1]

    try:
        number = execute_once(function, key=key, scope="galera")
    except (InProgress, StoreUnavailable) as refused:
        return Answer(503 if isinstance(refused, StoreUnavailable) else 409, detail=str(refused))
    return Answer(201, number, number not in ran)


class Clients:
    """Connects the calling thread to a node; the effects and the runs of the view are counted for all of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.runs, self.init_command = cluster, list[int](), ""

    def connect(self, node: Node) -> None:
        connection.close()
        options = {"charset": "utf8mb4", **({"init_command": self.init_command} if self.init_command else {})}
        place = {"HOST": str(node.socket), "NAME": DATABASE, "OPTIONS": options}
        connection.settings_dict = {**connection.settings_dict, **place}

    def send(self, door: Door, node: Node, key: str) -> Answer:
        """Send one request to a node, and see to it that nothing but an answer or a refusal comes back."""
        self.connect(node) if connection.settings_dict["HOST"] != str(
            node.socket
        ) else close_old_connections()
        answer = door(key)
        assert answer.status in (201, 409, 503)
        return answer

    def effects(self, node: Node) -> list[int]:
        """Return the numbers of all effects as they are at a node that has everything committed elsewhere."""
        self.connect(node)
        with connection.cursor() as cursor:
            cursor.execute(CURRENT)
        numbers = list(Product.objects.order_by("pk").values_list("pk", flat=True))
        assert IdempotencyRecord.objects.completed().count() == IdempotencyRecord.objects.count()
        connection.close()
        return numbers


@pytest.fixture(scope="session")
def started() -> Iterator[Cluster]:
    try:
        with cluster() as nodes:
            yield nodes
    except ServerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def clients(started: Cluster, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """Give clients of a cluster with empty tables; the thread of the test is connected to the first node."""
    clients, own = Clients(started), connection.settings_dict

    def effect() -> int:
        number = original()
        clients.runs.append(number)
        return number

    original = views.effect
    monkeypatch.setattr(views, "effect", effect)
    started.heal()
    try:
        clients.connect(started.nodes[0])
        call_command("migrate", verbosity=0)
        for model in (IdempotencyRecord, Product):
            model.objects.all().delete()
        yield clients
    finally:
        connection.close()
        connection.settings_dict = own
