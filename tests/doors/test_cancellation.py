"""A caller who goes away before, during and after the awaited part of an operation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import ResolverMatch, resolve

from django_idempotency.decorators import idempotent
from django_idempotency.execution import aexecute_once, execute_once
from django_idempotency.middleware import IdempotencyMiddleware
from django_idempotency.models import IdempotencyRecord
from django_idempotency.signals import claimed
from example_project.shop.models import Product
from tests.conftest import Parallel
from tests.views import effects

pytestmark = pytest.mark.django_db(transaction=True)


async def view(request: HttpRequest) -> HttpResponse:
    await Product.objects.acreate(name="effect", price="1.00", stock=1)
    return HttpResponse()


def request() -> HttpRequest:
    made = RequestFactory(headers={"Idempotency-Key": "key"}).post("/site/")
    made.resolver_match = ResolverMatch(view, (), {}, route="site/")
    return made


async def by_decorator() -> Any:
    return await idempotent(view)(request())


async def by_middleware() -> Any:
    async def get_response(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    return await IdempotencyMiddleware(get_response).process_view(request(), view, (), {})


async def by_execute_once() -> Any:
    async def work() -> None:
        await Product.objects.acreate(name="effect", price="1.00", stock=1)

    return await aexecute_once(work, key="key", scope="scope")


async def by_ninja() -> Any:
    match = resolve("/ninja/async-act/201", urlconf="tests.contrib.ninja_urls")
    made = request()
    made.resolver_match = match
    return await match.func(made, **match.kwargs)


@contextmanager
def held_at_the_claim() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Hold whoever has just claimed; the events tell that he is there, and that he may go on."""
    there, go_on = threading.Event(), threading.Event()

    def hold(**_: Any) -> None:
        there.set()
        assert go_on.wait(30)

    claimed.connect(hold)
    try:
        yield there, go_on
    finally:
        claimed.disconnect(hold)


async def cancelled_when(call: Callable[[], Any], there: threading.Event, go_on: threading.Event) -> None:
    """Start a call, cancel it when ``there`` is set, and only then let it go on."""
    task = asyncio.create_task(call())
    await asyncio.to_thread(there.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()


@pytest.fixture(params=[by_decorator, by_middleware, by_execute_once, by_ninja])
def call(request: pytest.FixtureRequest, settings: Any) -> Callable[[], Any]:
    settings.IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/site/"]}
    return request.param


def test_caller_who_leaves_before_the_view_starts_gets_nothing_started(
    call: Callable[[], Any], parallel: Parallel
) -> None:
    with held_at_the_claim() as events:
        parallel.call(lambda: async_to_sync(cancelled_when)(call, *events))
    assert effects() == IdempotencyRecord.objects.completed().count() == 0
    parallel.call(async_to_sync(call))
    assert effects() == IdempotencyRecord.objects.completed().count() == 1


def test_caller_who_leaves_while_it_runs_again_cancels_the_second_run(parallel: Parallel) -> None:
    there, over, runs = threading.Event(), threading.Event(), []

    async def work() -> None:
        runs.append(await sync_to_async(threading.get_ident)())
        await Product.objects.acreate(name="effect", price="1.00", stock=1)
        if len(runs) == 1:
            raise OperationalError(1213, "deadlock") from Deadlock()
        there.set()
        try:
            await asyncio.sleep(30)
        finally:
            over.set()

    async def scenario() -> None:
        await cancelled_when(lambda: aexecute_once(work, key="key", scope="scope"), there, threading.Event())
        assert await asyncio.to_thread(over.wait, 10), "the second run goes on"

    parallel.call(async_to_sync(scenario))
    assert len(runs) == 2
    assert effects() == IdempotencyRecord.objects.completed().count() == 0
    assert parallel.call(lambda: execute_once(lambda: "ran", key="key", scope="scope")) == "ran"


class Deadlock(Exception):
    """What PostgreSQL's driver says of a deadlock; MariaDB's number is in the arguments."""

    sqlstate = "40P01"
