"""A primary dies in the middle of load and its standby is promoted: one effect, and none lost that was acknowledged.

The servers are this test's own. ``STANDBY_ROUNDS`` is how often a primary dies.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.db import close_old_connections, connection
from django.http import HttpResponse
from django.test import Client

from django_idempotency.models import IdempotencyHour, IdempotencyRecord
from example_project.shop.models import Product
from example_project.stage import Answer, serving
from tests import standby
from tests.conftest import Parallel
from tests.doors.live import environment, wait_for
from tests.doors.live import post as send
from tests.history import Seen, anomalies
from tests.proofs import dose, milliseconds, note
from tests.recipes import PAGE, database
from tests.standby import Pair

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(1800),
    pytest.mark.vendors("postgresql"),
    pytest.mark.processes,
]

ROUNDS = dose("STANDBY_ROUNDS", 2)
CLIENTS, FRESH, BETWEEN = 6, 12, 60
TABLES = [Product, IdempotencyRecord, IdempotencyHour]


@pytest.fixture(scope="module")
def servers(django_db_setup: None) -> Iterator[Pair]:
    with standby.pair() as both:
        yield both


@pytest.fixture
def pair(servers: Pair, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Connect to both servers as the guide recommends; the tables are there, and empty."""
    recipe = database("A standby that takes over")
    with monkeypatch.context() as patch:
        connection.close()
        for name, value in {**recipe, "NAME": "shop", "USER": "postgres", "HOST": servers.host}.items():
            patch.setitem(connection.settings_dict, name, value)
        with connection.schema_editor() as editor:
            for model in TABLES:
                editor.create_model(model)
        yield servers
        servers.mend()
        with connection.schema_editor() as editor:
            for model in TABLES:
                editor.delete_model(model)
        connection.close()


def post(key: str) -> HttpResponse:
    close_old_connections()  # at the start of every request, but of the test client's
    client = Client(headers={"Idempotency-Key": key})
    return client.post("/echo/", {"note": key}, content_type="application/json")


@dataclass
class History:
    """What clients have seen, while they go on asking for new keys and old ones."""

    seen: list[Seen] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)
    turn: int = 0
    end: threading.Event = field(default_factory=threading.Event)

    def ask(self, key: str) -> int:
        """Send a request; the element is the number of its effect."""
        asked = time.monotonic()
        answer = post(key)
        assert answer.status_code in (201, 409, 503), answer.content
        assert answer.status_code == 201 or answer.headers["Retry-After"] == "1"
        element = answer.json()["id"] if answer.status_code == 201 else None
        self.seen.append(Seen(key, asked, time.monotonic(), element, "Idempotent-Replayed" in answer.headers))
        self.statuses[answer.status_code] += 1
        if b"outcome is unknown" in answer.content:
            self.unknown.add(key)
        return answer.status_code

    def act(self, name: str) -> None:
        """Be a client until the end."""
        chance = random.Random(name)
        while not self.end.is_set():
            self.turn += 1
            if self.ask(f"k{max(0, self.turn // 3 - chance.randrange(FRESH))}") == 503:
                self.end.wait(0.02)

    def wait_for(self, status: int, count: int = 1) -> float:
        """Wait until so many more answers have this status; return when."""
        before = self.statuses[status]
        wait_for(lambda: self.statuses[status] >= before + count)
        return time.monotonic()

    def settle(self) -> None:
        """Retry every key that was ever asked for until it is answered."""
        for key in {each.key for each in self.seen}:
            wait_for(lambda key=key: self.ask(key) == 201)


def effects() -> dict[str, list[int]]:
    found = defaultdict(list)
    for key, number in Product.objects.values_list("name", "pk"):
        found[key].append(number)
    return found


def fail_over(pair: Pair, history: History) -> tuple[float, float]:
    """Kill the primary under load; return for how long nobody was answered, and how much of it since the promotion."""
    killed = time.monotonic()
    pair.crash(pair.primary)
    history.wait_for(503)
    pair.promote()
    promoted = time.monotonic()
    pair.stand_by()  # every COMMIT waits until it is there
    answered = history.wait_for(201)
    return answered - killed, answered - promoted


def test_promoted_standby_has_every_acknowledged_effect_and_one_for_each_key(
    pair: Pair, parallel: Parallel, settings: Any
) -> None:
    history, outages = History(), []
    clients = [parallel.start(history.act, f"{name}") for name in range(CLIENTS)]
    for number in range(ROUNDS):
        # Changed under load, as by a rolling deploy.
        settings.IDEMPOTENCY = {"CLAIM": ["auto", "row_lock"][number % 2]}
        history.wait_for(201, BETWEEN)
        outages.append(fail_over(pair, history)[0])
    history.wait_for(201, BETWEEN)
    history.end.set()
    for client in clients:
        client()
    history.settle()
    found, kept = effects(), set(IdempotencyRecord.objects.completed().values_list("key", flat=True))
    wrong = anomalies(history.seen, found, kept)
    assert wrong == set()
    assert {each.key for each in history.seen} == set(found)
    answers = {str(status): count for status, count in sorted(history.statuses.items())}
    figures = {"kills": ROUNDS, "clients": CLIENTS, "keys": len(found), "unknown": len(history.unknown)}
    note("standby", **figures, answers=answers, anomalies=len(wrong), **milliseconds(outages))


# The standby is down, or only follows


def comes_back(pair: Pair) -> None:
    pair.start(pair.other)


def is_given_up(pair: Pair) -> None:
    pair.configure("synchronous_standby_names = ''")


@pytest.mark.parametrize("release", [comes_back, is_given_up])
def test_commit_that_waits_for_its_standby_is_acknowledged_by_nobody_until_then(
    release: Callable[[Pair], None], pair: Pair, parallel: Parallel
) -> None:
    pair.crash(pair.other)
    first = parallel.start(post, "k")
    wait_for(pair.waiting)
    assert post("k").status_code == 409
    release(pair)
    answer, replay = first(), post("k")
    assert (answer.status_code, replay.content) == (201, answer.content)
    assert effects() == {"k": [answer.json()["id"]]}


#: What one would expect to end the wait; each is over long before the wait is.
IN_VAIN = [
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "client_connection_check_interval",
]


@contextmanager
def shop(pair: Pair, log: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Serve by one worker of gunicorn; yield the port and the worker's process id."""
    settings = " ".join(f"-c {name}=1s" for name in IN_VAIN)
    place = {"DATABASE_HOST": pair.host, "DATABASE_USER": "postgres", "PGTARGETSESSIONATTRS": "read-write"}
    own = environment(**place, DJANGO_SETTINGS_MODULE="tests.settings", PGOPTIONS=settings)
    command = ["gunicorn", "example_project.wsgi", "--preload", *options, "--bind", "fd://{fd}"]
    with serving(command, own, log) as (port, master):
        children = Path(f"/proc/{master}/task/{master}/children")
        yield port, int(wait_for(children.read_text).split()[0])


def order(port: int) -> Answer:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    return send(port, "/echo/", b'{"note": "k"}', headers)


def test_nothing_bounds_a_waiting_commit_and_the_retry_of_a_killed_worker_reads_the_truth(
    pair: Pair, parallel: Parallel, tmp_path: Path
) -> None:
    with shop(pair, tmp_path / "log", "--threads", "2", "--timeout", "2") as (port, worker):
        pair.crash(pair.other)
        first = parallel.start(order, port)
        wait_for(lambda: pair.waiting("4s"))
        os.kill(worker, signal.SIGKILL)
        assert first().status == 0
        assert order(port).status == 409
        assert pair.waiting("4s")
        pair.start(pair.other)
        answer = wait_for(lambda: (found := order(port)).status == 201 and found)
    assert answer.replayed
    assert effects() == {"k": [json.loads(answer.body)["id"]]}


def test_worker_that_gunicorn_ends_for_slowness_takes_the_wait_with_it(
    pair: Pair, parallel: Parallel, tmp_path: Path
) -> None:
    with shop(pair, tmp_path / "log", "--timeout", "1") as (port, _):
        pair.crash(pair.other)
        first = parallel.start(order, port)
        wait_for(pair.waiting)
        assert first().status in (0, 500)
        answer = wait_for(lambda: (found := order(port)).status == 201 and found)
    assert answer.replayed
    assert pair.waiting() == []
    pair.crash(pair.primary)
    pair.start(pair.other)
    assert_lost_with_its_record_and_run_again(pair)


@pytest.mark.parametrize(("function", "status"), [("pg_cancel_backend", 201), ("pg_terminate_backend", 503)])
def test_waiting_commit_that_an_operator_ends_is_acknowledged_without_its_standby(
    function: str, status: int, pair: Pair, parallel: Parallel
) -> None:
    pair.crash(pair.other)
    first = parallel.start(post, "k")
    (session,) = wait_for(pair.waiting)
    pair.sql(f"SELECT {function}({session})")
    assert first().status_code == status
    assert wait_for(lambda: (found := post("k")).status_code == 201 and found).has_header(
        "Idempotent-Replayed"
    )
    pair.crash(pair.primary)
    pair.start(pair.other)
    assert_lost_with_its_record_and_run_again(pair)


def test_asynchronous_standby_may_lose_what_was_acknowledged_and_its_record_with_it(pair: Pair) -> None:
    pair.configure("synchronous_standby_names = ''")
    ((sender,),) = pair.sql("SELECT pid FROM pg_stat_replication")
    os.kill(sender, signal.SIGSTOP)
    assert post("k").status_code == 201
    pair.crash(pair.primary)
    assert_lost_with_its_record_and_run_again(pair)


def test_one_of_two_standbys_is_enough(pair: Pair, parallel: Parallel) -> None:
    (names,) = re.findall(r"`synchronous_standby_names = ('ANY 1 .*')`", PAGE)
    second = pair.other.with_name("second")
    pair.stand_by(second, "second")
    pair.configure(
        f"synchronous_standby_names = {names.replace('db2', standby.NAME).replace('db3', 'second')}"
    )
    pair.crash(pair.other)
    assert parallel.call(post, "k").status_code == 201
    wait_for(
        lambda: (
            pair.sql("SELECT application_name, sync_state FROM pg_stat_replication") == [("second", "quorum")]
        )
    )
    pair.crash(second)


def assert_lost_with_its_record_and_run_again(pair: Pair) -> None:
    pair.promote()
    connection.close()  # it led to the dead one
    assert (effects(), IdempotencyRecord.objects.count()) == ({}, 0)
    pair.stand_by()
    again = post("k")
    assert (again.status_code, again.has_header("Idempotent-Replayed")) == (201, False)
    assert effects() == {"k": [again.json()["id"]]}
    assert post("k").content == again.content
