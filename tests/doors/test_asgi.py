"""Async doors on a real uvicorn: one transaction, clients that hang up, races, and nothing that leaks."""

from __future__ import annotations

import http.client
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from example_project.stage import Answer, uvicorn
from tests.conftest import Parallel
from tests.doors.live import AMOUNT, LIVE_DOORS, Customer, Pause, environment, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240), pytest.mark.processes]

CROWD = 32
REQUESTS, CLIENTS, HANG_UPS = 1000, 8, 8
ASYNC = ["async-function", "async-class"]
OTHERS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist"
    " WHERE db = database() AND id <> connection_id()",
}


class Server:
    """A uvicorn of one process."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def post(self, door: str, customer: Customer, key: str, fault: str = "") -> Answer:
        return LIVE_DOORS[door].send(self.port, customer, key, fault)

    def hang_up(self, door: str, customer: Customer, key: str, pause: Pause) -> None:
        """Send a request, and close the connection when the view stands in the middle."""
        with closing(self.connection()) as client:
            self.start(client, door, customer, key, pause.fault)
            pause.pid()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def start(
        self, client: http.client.HTTPConnection, door: str, customer: Customer, key: str, fault: str = ""
    ) -> None:
        headers = {"Authorization": f"Token {customer.token.key}", "Content-Type": "application/json"}
        headers |= {"Idempotency-Key": key, "X-Shop-Fault": fault}
        client.request("POST", f"/plain/{door}/", json.dumps({"amount": str(AMOUNT)}), headers)

    def threads_at_rest(self) -> int:
        """Count the server's threads as soon as no request has a connection to the database any more."""
        wait_for(lambda: self.connections() == 0)
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def connections(self) -> int:
        """Count the connections to the database but this one, on SQLite the server's open files of it."""
        if connection.vendor == "sqlite":
            files = Path(f"/proc/{self.pid}/fd").iterdir()
            return sum(str(connection.settings_dict["NAME"]) in target(file) for file in files)
        with connection.cursor() as cursor:
            cursor.execute(OTHERS[connection.vendor])
            return int(cursor.fetchone()[0])


def target(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:  # closed since it was listed
        return ""


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with uvicorn(environment(), tmp_path_factory.mktemp("asgi") / "uvicorn.log") as (port, pid):
        yield Server(port, pid)


@pytest.mark.parametrize("door", ASYNC)
def test_async_writes_are_in_the_transaction_of_the_record(
    door: str, server: Server, pause: Pause, parallel: Parallel
) -> None:
    customer = Customer()
    answer = parallel.start(server.post, door, customer, "key", pause.fault)
    pause.pid()
    assert customer.deposits() == IdempotencyRecord.objects.completed().count() == 0
    pause.end()
    assert answer().status == 201
    assert customer.deposits() == IdempotencyRecord.objects.completed().count() == 1


@pytest.mark.parametrize("door", ASYNC)
def test_async_view_that_raises_leaves_nothing(door: str, server: Server) -> None:
    customer = Customer()
    assert [server.post(door, customer, "key", "raise").status for _ in range(2)] == [500, 500]
    assert customer.deposits() == IdempotencyRecord.objects.completed().count() == 0
    assert server.post(door, customer, "key").status == 201


@pytest.mark.parametrize("door", ASYNC)
def test_client_that_hangs_up_leaves_nothing_and_the_key_usable_at_once(
    door: str, server: Server, pause: Pause
) -> None:
    customer = Customer()
    server.hang_up(door, customer, "key", pause)
    answer = wait_for(lambda: settled(server.post(door, customer, "key")), 1)
    assert (answer.status, answer.replayed, json.loads(answer.body)) == (201, False, {"balance": "5.00"})
    assert customer.deposits() == IdempotencyRecord.objects.completed().count() == 1
    assert pause.file.exists(), "the first request was cancelled where it stood"


def test_sync_view_whose_client_hangs_up_is_finished_and_replayed(server: Server, pause: Pause) -> None:
    customer = Customer()
    server.hang_up("function", customer, "key", pause)
    pause.end()
    answer = wait_for(lambda: settled(server.post("function", customer, "key")))
    assert (answer.status, answer.replayed) == (201, True)
    assert customer.deposits() == 1


def settled(answer: Answer) -> Answer | None:
    return None if answer.status == 409 else answer


@pytest.mark.parametrize("door", ASYNC)
def test_simultaneous_requests_with_one_key_run_once(door: str, server: Server, parallel: Parallel) -> None:
    customer = Customer()
    answers = parallel.at_once(CROWD, lambda _: server.post(door, customer, "key"))
    counted = Counter(answer.status for answer in answers)
    assert set(counted) <= {201, 409}, counted
    created = [answer for answer in answers if answer.status == 201]
    assert sum(not answer.replayed for answer in created) == 1
    assert len({answer.body for answer in created}) == 1
    assert customer.deposits() == 1


def test_nothing_leaks(server: Server, parallel: Parallel, tmp_path: Path) -> None:
    customer = Customer()

    def work(name: str, count: int) -> None:
        with closing(server.connection()) as client:
            for number in range(count):
                server.start(client, "async-function", customer, f"{name}-{number}")
                assert client.getresponse().read()

    def crowd(name: str, count: int) -> None:
        parallel.at_once(CLIENTS, lambda client: work(f"{name}-{client}", count // CLIENTS))
        for number in range(HANG_UPS):
            server.hang_up(
                "async-function", customer, f"{name}-gone-{number}", Pause(tmp_path / f"{name}{number}")
            )

    crowd("warm", 2 * CLIENTS)
    before = server.threads_at_rest()
    crowd("many", REQUESTS)
    # The event loop's pool has a thread for each of the clients at most, as many as came at once; a leak has one for
    # each request, or for each client that hung up.
    assert server.threads_at_rest() < before + min(CLIENTS, HANG_UPS)
    assert customer.deposits() == 2 * CLIENTS + REQUESTS
