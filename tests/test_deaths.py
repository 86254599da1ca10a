"""The database's server is killed in the middle of a request and started again: one effect, and none lost that was
acknowledged.

The server is this test's own, with every commit flushed. ``DEATH_ROUNDS`` is how often it dies at each moment.
"""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import close_old_connections, connection
from django.http import HttpResponse
from django.test import Client
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests import servers, views
from tests.proofs import dose, milliseconds, note

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
    pytest.mark.vendors("postgresql", "mysql"),
    pytest.mark.processes,
    # PyMySQL forgets the socket of a connection that was refused.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

ROUNDS = dose("DEATH_ROUNDS", 1)


class Mortal:
    """A server that can die and be started again, with the two tables that the view and its record need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accident: Callable[[], None] | None = None
        self.lives = ExitStack()

    def die(self) -> None:
        servers.crash(self.folder)

    def act(self, request: Request) -> Response:
        """Have the accident, once, after the view's write."""
        accident, self.accident = self.accident, None
        if accident:
            accident()
        return Response({"id": Product.objects.latest("pk").pk}, status=201)


@pytest.fixture
def mortal(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mortal]:
    """Connect to a server of the test's own."""
    engine = {"postgresql": "postgres", "mysql": "mariadb"}[connection.vendor]
    with servers.server(engine, durable=True) as place, monkeypatch.context() as patch:
        host = Path(place["DATABASE_HOST"])
        mortal = Mortal(host if host.is_dir() else host.parent)
        connection.close()
        for name in ("HOST", "NAME"):
            patch.setitem(connection.settings_dict, name, place[f"DATABASE_{name}"])
        patch.setitem(views.ACTS, "die", mortal.act)
        with connection.schema_editor() as editor:
            editor.create_model(Product)
            editor.create_model(IdempotencyRecord)
        with mortal.lives:
            yield mortal
            connection.close()
            gc.collect()


def post(key: str) -> HttpResponse:
    close_old_connections()  # at the start of every request, but of the test client's
    client = Client(headers={"Idempotency-Key": key})
    return client.post("/probe/die/", b"{}", content_type="application/json")


def in_the_view(mortal: Mortal) -> None:
    """Die between the view's write and the record."""
    mortal.accident = mortal.die


def before_commit(mortal: Mortal) -> None:
    """Die between the record and COMMIT."""

    def watch(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if IdempotencyRecord._meta.db_table in sql and not sql.startswith("SELECT"):
            connection.execute_wrappers.remove(watch)
            mortal.die()
        return result

    mortal.accident = lambda: connection.execute_wrappers.append(watch)


def at_commit(mortal: Mortal) -> None:
    """Die while COMMIT is on its way, done or answered: nobody knows."""

    def commit() -> None:
        del connection._commit
        ahead = random.uniform(-0.0015, 0.0015)  # either may be first
        killer = threading.Timer(max(0, -ahead), mortal.die)
        killer.start()
        time.sleep(max(0, ahead))
        try:
            connection._commit()
        finally:
            killer.join()

    mortal.accident = lambda: setattr(connection, "_commit", commit)


def after_the_answer(mortal: Mortal) -> None:
    """Do not die before the answer is there."""


MOMENTS = [in_the_view, before_commit, at_commit, after_the_answer]


def retry(key: str, log: Path) -> tuple[HttpResponse, float]:
    """Retry until the server is up again; every answer until then tells the client to come back."""
    started = time.monotonic()
    while (answer := post(key)).status_code == 503:
        assert answer.headers["Retry-After"] == "1"
        assert time.monotonic() - started < 60, log.read_text("utf-8")[-2000:]
        time.sleep(0.02)
    return answer, time.monotonic() - started


def test_killed_server_loses_nothing_acknowledged_and_the_retry_has_one_effect(mortal: Mortal) -> None:
    waits, kept = [], 0
    for done in range(ROUNDS * len(MOMENTS)):
        moment, key = MOMENTS[done % len(MOMENTS)], f"k{done}"
        moment(mortal)
        first = post(key)
        acknowledged = first.status_code == 201
        if moment is after_the_answer:
            mortal.die()
        assert acknowledged or (first.status_code, first.headers["Retry-After"]) == (503, "1")
        assert acknowledged is (moment is after_the_answer) or moment is at_commit
        mortal.lives.close()
        mortal.lives.enter_context(servers.started_again(mortal.folder))
        answer, seconds = retry(key, mortal.folder / "server.log")
        waits.append(seconds)
        kept += "Idempotent-Replayed" in answer.headers
        assert answer.status_code == 201
        assert not acknowledged or answer.content == first.content
        assert Product.objects.count() == IdempotencyRecord.objects.completed().count() == done + 1
    assert ROUNDS <= kept <= 2 * ROUNDS
    note("deaths", kills=len(waits), replayed=kept, duplicates=0, lost=0, **milliseconds(waits))
