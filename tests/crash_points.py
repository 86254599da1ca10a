"""Points around every step of a request, a task or a command, at each of which the process can be killed.

A step is a statement, a rendering, a COMMIT or the answer; there is a point before and after each. Who sends the
request asks for ``trace FILE``, which lists the points in the order in which they are passed, or for ``POINT FILE``:
the process kills itself at that point, once, and FILE is there from then on.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from importlib import import_module
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import AppConfig
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.template.response import SimpleTemplateResponse
from django.utils.decorators import sync_and_async_middleware

HEADER = "X-Crash-Point"
VARIABLE = "CRASH_POINT"
# Django asks MariaDB who it is, and tells it what it wants of a new connection.
_OF_A_CONNECTION = re.compile(r".*@@|SET (SQL_AUTO_IS_NULL|SESSION TRANSACTION)", re.DOTALL)
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+[\"`]?(\w+)")


class Journey:
    """The way of one request through the points; a process makes one at a time, whatever thread it is on."""

    def __init__(self) -> None:
        self.end, self.file = "", ""
        self.passed: Counter[str] = Counter()

    def begin(self, wanted: str) -> None:
        self.end, _, self.file = wanted.rpartition(" ")
        self.passed.clear()

    def reach(self, place: str) -> None:
        if not self.end:
            return
        self.passed[place] += 1
        point = f"{place} {self.passed[place]}"
        if self.end == "trace":
            with open(self.file, "a", encoding="utf-8") as trace:
                trace.write(f"{point}\n")
        elif self.end == point:
            self.kill()

    def arrive(self) -> None:
        """Reach the last point; what the process does between two requests is on nobody's way."""
        self.reach("before the answer")
        self.begin("")

    def kill(self) -> None:
        with suppress(FileExistsError):
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.reach(f"before {name}")
        yield
        self.reach(f"after {name}")


journey = Journey()


def statement(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
    if _OF_A_CONNECTION.match(str(sql)):  # there only where this thread has had another connection before
        return execute(sql, *rest)
    words = [str(sql).split()[0], *_TABLE.findall(str(sql))[:1]]
    with journey.step(" ".join(words)):
        return execute(sql, *rest)


def watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(statement)


def around(owner: type, method: str, name: str) -> None:
    original = getattr(owner, method)

    @wraps(original)
    def stepping(*args: Any, **kwargs: Any) -> Any:
        with journey.step(name):
            return original(*args, **kwargs)

    setattr(owner, method, stepping)


@sync_and_async_middleware
def middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Begin a journey when the request comes in, and end it when the answer has gone through everything else."""

    def sync(request: Any) -> Any:
        journey.begin(request.headers.get(HEADER, ""))
        response = get_response(request)
        journey.arrive()
        return response

    async def asynchronous(request: Any) -> Any:
        journey.begin(request.headers.get(HEADER, ""))
        response = await get_response(request)
        journey.arrive()
        return response

    return asynchronous if iscoroutinefunction(get_response) else sync


def begin_task(task: Any, **_: Any) -> None:
    journey.begin((task.request.headers or {}).get(HEADER, ""))


def end_task(**_: Any) -> None:
    journey.arrive()


class CrashPoints(AppConfig):
    """Puts the points up in a process that has this app; a command's journey begins with its environment."""

    name = "tests.crash_points"
    label = "crash_points"

    def ready(self) -> None:
        with suppress(ImportError):
            from celery.signals import task_postrun, task_prerun

            task_prerun.connect(begin_task)
            task_postrun.connect(end_task)
        connection_created.connect(watch)
        around(BaseDatabaseWrapper, "_commit", "COMMIT")
        around(SimpleTemplateResponse, "render", "rendering")
        journey.begin(os.environ.get(VARIABLE, ""))
        import_module(settings.ROOT_URLCONF)  # or each worker forked by gunicorn does it in its first request
