"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections

from django_idempotency import counting
from django_idempotency.counting import tally

ATOMIC_REQUESTS = "ATOMIC_REQUESTS"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what says nothing about this run's database: ``@pytest.mark.vendors("postgresql", …)``."""

    def applies(item: pytest.Item) -> bool:
        return all(connection.vendor in marker.args for marker in item.iter_markers("vendors"))

    config.hook.pytest_deselected(items=[item for item in items if not applies(item)])
    items[:] = [item for item in items if applies(item)]


def printed(command: str, *arguments: str) -> str:
    """Return what a management command prints."""
    out = io.StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


class Parallel:
    """Calls functions on threads of their own, each with its own database connection."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.seconds = 60.0

    def start(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Start ``function`` and return what waits for its result, or raises what it raised."""
        results: list[Any] = []

        def call() -> None:
            try:
                results.append((function(*args), None))
            except BaseException as error:  # noqa: BLE001 (it is raised again where the result is asked for)
                results.append((None, error))
            finally:
                connections.close_all()

        thread = threading.Thread(target=call, daemon=True)
        self.threads.append(thread)
        thread.start()

        def result() -> Any:
            thread.join(self.seconds)
            assert results, "the thread did not end"
            value, error = results[0]
            if error is not None:
                raise error
            return value

        return result

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return the result of ``function`` as another connection sees it."""
        return self.start(function, *args)()

    def at_once(self, count: int, function: Callable[[int], Any]) -> list[Any]:
        """Call ``function(0)`` to ``function(count - 1)`` at the same moment and return the results in order."""
        barrier = threading.Barrier(count)

        def call(number: int) -> Any:
            barrier.wait(60)
            return function(number)

        waiting = [self.start(call, number) for number in range(count)]
        return [result() for result in waiting]


@pytest.fixture(autouse=True)
def nothing_is_written_down_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of this test, or of another, must not be written at the end of a request that is looked at."""
    tally.clear()
    monkeypatch.setattr(counting, "WRITE_EVERY", float("inf"))


@pytest.fixture
def parallel() -> Iterator[Parallel]:
    threads = Parallel()
    yield threads
    for thread in threads.threads:
        thread.join(threads.seconds)


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def atomic_requests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run the test with ATOMIC_REQUESTS off and on."""
    monkeypatch.setitem(connection.settings_dict, ATOMIC_REQUESTS, request.param)
    value: bool = request.param
    return value
