"""The replay cache flushed, full, slow, dead, killed under load, and on a cluster: only the speed changes."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
import redis
from django_redis.pool import ConnectionFactory

from django_idempotency import replay_cache
from django_idempotency.claims import retention
from django_idempotency.core import circuits
from django_idempotency.models import IdempotencyRecord
from tests import servers
from tests.caching import BACKENDS, Inside, is_replay, send, use
from tests.conftest import Parallel
from tests.views import effects

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once, pytest.mark.processes]

ROUNDS = int(os.environ.get("CACHE_ROUNDS", "40"))
engines = pytest.mark.parametrize("debian", [False, True], ids=["valkey", "redis"])


@pytest.fixture(scope="module", params=[False, True], ids=["valkey", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    with started(debian=request.param) as path:
        yield path


def started(*, debian: bool, folder: Path | None = None) -> AbstractContextManager[str]:
    """Start a Valkey, or Debian's Redis if this machine has it."""
    if debian and shutil.which("redis-server") is None:
        pytest.skip("redis-server is missing: apt-get install redis-server")
    return servers.redis(debian=debian, folder=folder)


@pytest.fixture
def inside(place: str, settings: Any) -> Iterator[Inside]:
    use(settings, place)
    found = Inside(place)
    yield found
    found.client.config_set("maxmemory", 0)
    found.client.flushall()
    found.client.close()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_flushed(inside: Inside) -> None:
    first, _ = send()
    inside.client.flushall()
    retry, statements = send()
    assert (retry.content, is_replay(retry), statements > 0) == (first.content, True, True)
    assert send("later")[0].status_code == 201
    assert send("later")[1] == 0


def test_full(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """What is in it is still read; what is ended is still taken out; nothing new goes in."""
    send("early")
    inside.client.config_set("maxmemory", 1)
    late, _ = send("late")
    assert send("early")[1] == 0
    retry, statements = send("late")
    assert (retry.content, statements > 0) == (late.content, True)
    assert "maxmemory" in messages(caplog)[0]
    retention.delete_chosen(
        IdempotencyRecord.objects.all(), IdempotencyRecord.objects.values_list("id", flat=True)
    )
    assert not is_replay(send("early")[0])
    assert effects() == 3


def test_slow(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """The first who waits is sent on after 50 ms, and the others do not wait at all."""
    first, _ = send()
    inside.client.execute_command("CLIENT", "PAUSE", 900, "ALL")
    started = time.monotonic()
    answers = [send()[0] for _ in range(3)]
    took = time.monotonic() - started
    assert {answer.content for answer in answers} == {first.content}
    assert 0.04 < took < 0.85
    assert len(messages(caplog)) == 1
    assert "Timeout" in messages(caplog)[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_listens(
    settings: Any, tmp_path: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    use(settings, str(tmp_path / "nobody"), backend)
    first, _ = send()
    assert send()[0].content == first.content
    assert effects() == 1
    # One for reading, one for writing.
    assert ["cannot be used" in message for message in messages(caplog)] == [True, True]


def test_outages_are_not_hidden_from_the_breaker(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DJANGO_REDIS_IGNORE_EXCEPTIONS = True
    use(settings, str(tmp_path / "nobody"))
    send()
    assert len(messages(caplog)) == 2


def test_deletion_that_the_cache_cannot_be_told_is_an_error_in_the_log(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    use(settings, str(tmp_path / "nobody"))
    send()
    caplog.clear()
    ids = IdempotencyRecord.objects.values_list("id", flat=True)
    assert len(retention.delete_chosen(IdempotencyRecord.objects.all(), ids)) == 1
    (message,) = messages(caplog)
    assert "up to 1 records" in message
    assert "flush it" in message


def test_deletion_is_told_to_the_cache_during_a_pause_too(inside: Inside) -> None:
    send()
    cache = replay_cache._chosen()
    assert cache is not None
    cache.writing.failed(cache.writing.ticket() or 0)
    retention.delete_chosen(
        IdempotencyRecord.objects.all(), IdempotencyRecord.objects.values_list("id", flat=True)
    )
    assert not is_replay(send()[0])


@engines
def test_killed_under_load_and_started_again(
    settings: Any,
    tmp_path_factory: pytest.TempPathFactory,
    parallel: Parallel,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    debian: bool,
) -> None:
    """Eight clients send each key twice while the server is killed, and started again: one effect a key."""
    monkeypatch.setattr(circuits, "FIRST_PAUSE", 0.05)
    with servers._folder() as name, started(debian=debian, folder=Path(name)) as path:
        use(settings, path)
        pid = int((Path(name) / "server.pid").read_text())

        def client(number: int) -> list[tuple[int, int, bytes, bytes, bool]]:
            seen = []
            for turn in range(ROUNDS):
                if (number, turn) == (0, ROUNDS // 3):
                    os.kill(pid, signal.SIGKILL)
                first, retry = (send(f"{number}-{turn}")[0] for _ in range(2))
                seen.append(
                    (first.status_code, retry.status_code, first.content, retry.content, is_replay(retry))
                )
            return seen

        pairs = [pair for seen in parallel.at_once(8, client) for pair in seen]
        assert {pair[:2] for pair in pairs} == {(201, 201)}
        assert all(first == retry and told for _, _, first, retry, told in pairs)
        assert effects() == 8 * ROUNDS
        with servers.redis(debian=debian, folder=Path(name)), closing(Inside(path).client):
            deadline = time.monotonic() + 20
            number = 0
            while send(f"after-{number}")[0].status_code == 201 and send(f"after-{number}")[1]:
                number += 1
                assert time.monotonic() < deadline, "it was not used again"
    said = messages(caplog)
    assert sum("cannot be used" in message for message in said) >= 2
    assert sum("can be used again" in message for message in said) >= 2


class ClusterFactory(ConnectionFactory):  # type: ignore[type-arg]
    """What docs/guide/replay-cache.md shows."""

    def connect(self, url: str) -> Any:
        return redis.RedisCluster.from_url(url)


def test_cluster_of_three_masters(settings: Any) -> None:
    with servers.redis_cluster() as ports:
        settings.DJANGO_REDIS_CONNECTION_FACTORY = f"{__name__}.ClusterFactory"
        use(settings, f"redis://127.0.0.1:{ports[0]}")
        firsts = [send(f"{number}")[0].content for number in range(12)]
        retries = [send(f"{number}") for number in range(12)]
        assert [answer.content for answer, _ in retries] == firsts
        assert {statements for _, statements in retries} == {0}
        sizes = [redis.Redis(port=port).dbsize() for port in ports]
        assert all(sizes)
        assert sum(sizes) == 12
        ids = IdempotencyRecord.objects.values_list("id", flat=True)
        retention.delete_chosen(IdempotencyRecord.objects.all(), ids)
        assert not any(is_replay(send(f"{number}")[0]) for number in range(12))
