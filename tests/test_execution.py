"""Code outside HTTP: a function's effect and value happen once, sync and async."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from django_idempotency.decorators import idempotent_function
from django_idempotency.exceptions import (
    FingerprintMismatch,
    InProgress,
    KeyInvalid,
    ResultExpired,
)
from django_idempotency.execution import aexecute_once, execute_once
from django_idempotency.models import IdempotencyRecord
from example_project.shop.models import Product
from tests.conftest import Parallel
from tests.views import effect, effects

pytestmark = pytest.mark.django_db(transaction=True)


def once(func: Any = effect, key: str = "event-1", scope: str = "events", **options: Any) -> Any:
    return execute_once(func, key=key, scope=scope, **options)


async def aeffect() -> int:
    product = await Product.objects.acreate(name="effect", price="1.00", stock=1)
    return product.pk


# Values


def test_second_call_gets_the_first_value_and_has_no_effect() -> None:
    assert once() == once()
    assert effects() == 1
    record = IdempotencyRecord.objects.get()
    assert (record.scope, record.key, record.state) == ("function:events", "event-1", "completed")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None), (0, 0), ("", ""), ([], []), ((1, (2,)), [1, [2]]), ({1: "a"}, {"1": "a"}), ("snow ☃", "snow ☃"),
        (1.5, 1.5), (True, True), ("\ud800", "\ud800"),
    ],
)  # fmt: skip
def test_first_caller_gets_what_every_later_one_gets(value: Any, stored: Any) -> None:
    assert once(lambda: value) == once(lambda: value) == stored
    assert type(once(lambda: value)) is type(stored)


@pytest.mark.parametrize(
    "value", [Decimal("1.0"), timezone.now(), object(), {(1, 2): 3}, float("nan"), {1}, b"x"]
)
def test_value_that_json_cannot_hold_is_an_error_that_says_what_to_return(value: Any) -> None:
    with pytest.raises(TypeError, match=r"stored as JSON.*return None, numbers, strings"):
        once(lambda: (effect(), value))
    assert effects() == IdempotencyRecord.objects.completed().count() == 0


def test_value_that_contains_itself_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TypeError, match="stored as JSON"):
        once(lambda: value)


@override_settings(IDEMPOTENCY={"MAX_BODY_BYTES": 10})
def test_value_too_large_to_keep_runs_once_all_the_same() -> None:
    def large() -> str:
        effect()
        return "x" * 100

    assert once(large) == "x" * 100
    with pytest.raises(ResultExpired, match="do not run it again"):
        once(large)
    assert effects() == 1


def test_falsy_value_is_a_stored_value() -> None:
    def nothing() -> None:
        effect()

    assert once(nothing) is once(nothing) is None
    assert effects() == 1


# What it means to be the same


def test_other_key_scope_or_name_is_another_operation() -> None:
    assert len({once(), once(key="event-2"), once(scope="others"), once(scope="events 2")}) == 4


def test_scope_of_a_function_is_never_the_scope_of_a_request() -> None:
    once(scope="user:1 api/orders/")
    assert " " not in IdempotencyRecord.objects.get().scope


def test_other_fingerprint_is_refused_and_the_record_is_untouched() -> None:
    first = once(fingerprint="10 EUR")
    for other in ("11 EUR", "", None):
        with pytest.raises(FingerprintMismatch):
            once(fingerprint=other)
    assert once(fingerprint="10 EUR") == first


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "naïve", "a\nb"])
def test_key_that_cannot_be_one_is_refused_and_nothing_runs(key: str) -> None:
    with pytest.raises(KeyInvalid):
        once(key=key)
    assert effects() == 0


@pytest.mark.parametrize("key", [7, None, b"event"])
def test_key_that_is_no_text_is_refused_by_name(key: Any) -> None:
    with pytest.raises(KeyInvalid, match=f"this one is a {type(key).__name__}"):
        once(key=key)


@pytest.mark.parametrize("wrong", [{"scope": None}, {"scope": 7}, {"fingerprint": 10}, {"fingerprint": b"x"}])
def test_scope_or_fingerprint_that_is_no_text_is_an_error_that_names_it(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(
        TypeError, match=f"The {name} .* must be a str, and this one is a {type(value).__name__}"
    ):
        once(**wrong)
    assert effects() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"retention": -1},
        {"retention": 0},
        {"retention": "1d"},
        {"retention": timedelta(0)},
        {"wait_seconds": -1},
        {"wait_seconds": "x"},
        {"wait_seconds": True},
    ],
    ids=str,
)
def test_time_that_is_none_is_an_error_and_nothing_runs(wrong: dict[str, Any]) -> None:
    """A record that has expired at once would let every call run."""
    ((name, value),) = wrong.items()
    with pytest.raises(TypeError, match=re.escape(f"execute_once({name}={value!r}): give seconds")):
        once(**wrong)
    assert effects() == 0
    with pytest.raises(TypeError, match=re.escape(f"@idempotent_function({name}={value!r}): give seconds")):
        idempotent_function(key=str, scope="x", **wrong)


@pytest.mark.parametrize("retention", [60, timedelta(minutes=1)])
def test_retention_is_seconds_or_a_timedelta(retention: Any) -> None:
    once(retention=retention)
    left = IdempotencyRecord.objects.get().expires_at - timezone.now()
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)


# Failures


def test_what_the_function_raises_is_raised_and_leaves_nothing() -> None:
    def fails() -> None:
        effect()
        raise LookupError("no such order")

    for _ in range(2):
        with pytest.raises(LookupError, match="no such order"):
            once(fails)
    assert effects() == 0
    assert once() == Product.objects.get().pk


def test_integrity_error_of_the_function_is_its_own() -> None:
    def twin() -> None:
        Product.objects.create(pk=effect(), name="twin", price="1.00", stock=1)

    with pytest.raises(IntegrityError):
        once(twin)
    assert effects() == 0


@pytest.mark.vendors("postgresql", "mysql")
def test_duplicate_while_it_runs_is_in_progress(parallel: Parallel) -> None:
    def busy() -> int:
        with pytest.raises(InProgress):
            parallel.call(once)
        return effect()

    assert once(busy) == once()
    assert effects() == 1


@pytest.mark.vendors("sqlite")
def test_duplicate_while_it_runs_waits_for_the_value(parallel: Parallel) -> None:
    started = threading.Event()

    def busy() -> int:
        number = effect()
        waiting.append(parallel.start(once))
        started.set()
        return number

    waiting: list[Any] = []
    assert once(busy) == waiting[0]()
    assert effects() == 1


def test_many_at_once_have_one_effect(parallel: Parallel) -> None:
    values = parallel.at_once(16, lambda number: once(wait_seconds=30))
    assert len(set(values)) == effects() == 1


# Inside other transactions


def test_inside_a_block_that_is_rolled_back_nothing_is_left() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        once()
        raise RuntimeError
    assert effects() == IdempotencyRecord.objects.count() == 0


def test_operation_inside_an_operation_has_a_record_of_its_own_and_the_same_fate() -> None:
    def outer(fails: bool) -> Any:
        value = once(key="inner")
        if fails:
            raise RuntimeError
        return [value, effect()]

    with pytest.raises(RuntimeError):
        once(lambda: outer(True), key="outer")
    assert IdempotencyRecord.objects.completed().count() == effects() == 0
    assert once(lambda: outer(False), key="outer")[0] == once(key="inner")
    assert IdempotencyRecord.objects.completed().count() == effects() == 2


def test_failed_inner_operation_leaves_the_outer_one_intact() -> None:
    def fails() -> None:
        effect()
        raise LookupError

    def outer() -> int:
        with pytest.raises(LookupError):
            once(fails, key="inner")
        return effect()

    assert once(outer, key="outer")
    assert effects() == IdempotencyRecord.objects.completed().count() == 1


# Async


def run(coroutine_function: Any) -> Any:
    """Run a coroutine on a loop of its own, as a script or a management command does."""
    return async_to_sync(coroutine_function)()


def test_coroutine_function_runs_once_in_the_transaction_of_the_record() -> None:
    async def main() -> list[int]:
        return [await aexecute_once(aeffect, key="k", scope="async") for _ in range(2)]

    first, second = run(main)
    assert first == second
    assert effects() == IdempotencyRecord.objects.completed().count() == 1


@pytest.mark.parametrize("func", [effect, partial(aeffect)], ids=["function", "partial"])
def test_async_form_takes_functions_and_what_returns_a_coroutine(func: Any) -> None:
    async def main() -> Any:
        return await aexecute_once(func, key="k", scope="async")

    assert run(main) == run(main)
    assert effects() == 1


def test_coroutine_that_fails_leaves_nothing() -> None:
    async def fails() -> None:
        await aeffect()
        raise LookupError

    async def main() -> None:
        await aexecute_once(fails, key="k", scope="async")

    for _ in range(2):
        with pytest.raises(LookupError):
            run(main)
    assert effects() == 0
    assert IdempotencyRecord.objects.completed().count() == 0


def test_gathered_operations_take_turns_and_each_has_its_effect() -> None:
    running: list[str] = []

    async def task(key: str) -> int:
        running.append(key)
        number = await aeffect()
        await asyncio.sleep(0)
        assert running == [key]
        await sync_to_async(lambda: None)()
        running.remove(key)
        return number

    async def main() -> list[int]:
        calls = [aexecute_once(lambda key=key: task(key), key=key, scope="gathered") for key in "abcabc"]
        return list(await asyncio.gather(*calls))

    values = run(main)
    assert values[:3] == values[3:]
    assert effects() == IdempotencyRecord.objects.completed().count() == 3


def test_gathered_operations_inside_an_operation_take_turns() -> None:
    async def outer() -> list[int]:
        calls = [aexecute_once(aeffect, key=key, scope="inner") for key in "aba"]
        return [*await asyncio.gather(*calls), await aeffect()]

    async def main() -> Any:
        return await aexecute_once(outer, key="outer", scope="outer")

    first, second, again, _ = run(main)
    assert (first, first != second) == (again, True)
    assert effects() == IdempotencyRecord.objects.completed().count() == 3


def test_unrelated_write_that_is_gathered_is_not_in_the_transaction() -> None:
    started = asyncio.Event()

    async def fails() -> None:
        started.set()
        await aeffect()
        await asyncio.sleep(0)
        raise LookupError

    async def unrelated() -> int:
        await started.wait()
        return await aeffect()

    async def main() -> list[Any]:
        operation = aexecute_once(fails, key="k", scope="gathered")
        return list(await asyncio.gather(operation, unrelated(), return_exceptions=True))

    failed, number = run(main)
    assert isinstance(failed, LookupError)
    assert list(Product.objects.values_list("pk", flat=True)) == [number]


def test_cancelled_operation_is_rolled_back_and_its_key_is_usable() -> None:
    async def endless() -> None:
        await aeffect()
        written.set()
        await asyncio.Event().wait()

    written = asyncio.Event()

    async def main() -> Any:
        task = asyncio.ensure_future(aexecute_once(endless, key="k", scope="cancelled"))
        await written.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await aexecute_once(aeffect, key="k", scope="cancelled")

    number = run(main)
    assert list(Product.objects.values_list("pk", flat=True)) == [number]
    assert IdempotencyRecord.objects.completed().count() == 1


def test_operation_that_times_out_is_rolled_back() -> None:
    async def slow() -> None:
        await aeffect()
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.wait_for(aexecute_once(slow, key="k", scope="slow"), 0.3)

    with pytest.raises(asyncio.TimeoutError):
        run(main)
    assert effects() == 0


# The decorator


def test_decorated_function_takes_effect_once_per_key() -> None:
    @idempotent_function(key=lambda event, **_: event["id"], scope="decorated")
    def consume(event: dict[str, str], *, note: str = "") -> int:
        """Consume an event."""
        return effect()

    assert consume({"id": "1"}) == consume({"id": "1"}, note="again") != consume({"id": "2"})
    assert (effects(), consume.__name__, consume.__doc__) == (2, "consume", "Consume an event.")


def test_decorated_function_compares_what_must_be_the_same() -> None:
    @idempotent_function(
        key=lambda order, amount: order, fingerprint=lambda order, amount: str(amount), scope="pay"
    )
    def pay(order: str, amount: int) -> int:
        return effect()

    assert pay("7", 10) == pay("7", 10)
    with pytest.raises(FingerprintMismatch):
        pay("7", 11)


def test_decorated_coroutine_function_stays_one() -> None:
    @idempotent_function(key=str, scope="async", retention=60)
    async def consume(number: int) -> int:
        return await aeffect()

    async def main() -> list[int]:
        return [await consume(1), await consume(1), await consume(2)]

    first, again, other = run(main)
    assert (first == again, first == other) == (True, False)


def test_decorated_method_gets_itself_into_the_key() -> None:
    class Consumer:
        name = "a"

        @idempotent_function(key=lambda self, number: f"{self.name}-{number}", scope="method")
        def consume(self, number: int) -> int:
            return effect()

    assert Consumer().consume(1) == Consumer().consume(1)
    assert IdempotencyRecord.objects.get().key == "a-1"


def test_key_that_is_no_callable_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="key must be a callable"):
        idempotent_function(key="event", scope="x")  # type: ignore[arg-type]


def test_records_alias_is_the_default_database() -> None:
    assert once(using=connection.alias) == once()
