"""Code outside HTTP that must happen once: webhook consumers, tasks, commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from inspect import isawaitable, iscoroutine
from typing import Any, NoReturn
from urllib.parse import quote

from asgiref.sync import async_to_sync, sync_to_async

from django_idempotency.claims.registry import record_alias
from django_idempotency.conf import conf
from django_idempotency.core.fingerprints import fingerprint as fingerprint_of
from django_idempotency.core.keys import checked_key
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.core.values import MEDIA_TYPE, decode, encode
from django_idempotency.engine import execute
from django_idempotency.exceptions import KeyInvalid, ResultExpired
from django_idempotency.options import require

_HEADERS = (("Content-Type", MEDIA_TYPE),)


def execute_once(
    func: Callable[[], Any],
    *,
    key: str,
    scope: str,
    fingerprint: str | None = None,
    retention: float | timedelta | None = None,
    using: str | None = None,
    wait_seconds: float = 0,
) -> Any:
    """Call ``func`` once per (scope, key), and give its value to every later caller.

    The value must be JSON (TypeError if not), and the first caller gets it as every later one does: tuples are
    lists. It is committed with the function's writes to ``using`` (default: the records' alias); what the function
    raises is raised on, rolled back and not stored, so the next call runs again. ``scope`` names the kind of
    action (``"stripe webhooks"``), ``key`` the one action (the provider's event id), ``fingerprint`` what must be
    the same in every call. ``retention`` is in seconds or a timedelta.

    Raises InProgress while another process runs it (after ``wait_seconds``), FingerprintMismatch, KeyInvalid,
    StoreUnavailable, or ResultExpired when it ran and its value was larger than MAX_BODY_BYTES. Inside an outer
    ``atomic()`` value and writes are committed with that block, or not at all.
    """
    require("execute_once", "retention", retention)
    require("execute_once", "wait_seconds", wait_seconds)
    operation = _operation(key, scope, fingerprint, retention)
    result = execute(operation, _FunctionWork(func), using=using or record_alias(), wait=wait_seconds)
    return _stored_value(result) if isinstance(result, Snapshot) else result.answer


async def aexecute_once(func: Callable[[], Any], **options: Any) -> Any:
    """Do what ``execute_once()`` does, for a coroutine function or a function.

    The claim and every thread-sensitive call of the coroutine, async ORM calls for example, run on one thread and so
    in one transaction; nobody else's calls do, for that thread works for this operation alone until it ends. A
    cancelled caller rolls back and leaves the key usable. The options are those of ``execute_once()``.
    """
    return await on_thread(execute_once, func, **options)


async def on_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Await a blocking function on the one thread whose database connection the caller's async ORM calls use.

    When the caller is cancelled, so is what ``finished()`` awaits there; what has not started yet never does.
    """
    caller = _Caller()

    def call() -> Any:
        token = _caller.set(caller)
        try:
            return function(*args, **kwargs)
        finally:
            _caller.reset(token)

    try:
        return await sync_to_async(call, thread_sensitive=True)()
    except asyncio.CancelledError:
        caller.leave()
        raise


def finished(value: Any) -> Any:
    """Return ``value``, or what it comes to if it has to be awaited, from a thread without a running event loop."""
    if not isawaitable(value):
        return value
    caller = _caller.get(None) or _Caller()
    if caller.is_gone:
        _discard(value)
    return async_to_sync(_awaited)(value, caller)


@dataclass
class _Caller:
    """Who awaits an operation, and may go away before it starts, while it runs, or between two runs of it.

    asgiref passes a cancellation on to the first run only, and only when that has started.
    """

    is_gone: bool = False
    run: asyncio.Task[Any] | None = None

    def leave(self) -> None:
        self.is_gone = True
        if self.run is not None:
            self.run.cancel()


_caller: ContextVar[_Caller] = ContextVar("idempotency_caller")


async def _awaited(awaitable: Awaitable[Any], caller: _Caller) -> Any:
    # The caller leaves on this loop too: between the look in finished() and this one he may have, after it he cancels.
    if caller.is_gone:
        _discard(awaitable)
    caller.run = asyncio.current_task()
    return await awaitable


def _discard(awaitable: Any) -> NoReturn:
    if iscoroutine(awaitable):
        awaitable.close()
    raise asyncio.CancelledError


class _FunctionWork:
    """A function as work for the engine: its value is the answer, its exception is raised on."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self.func = func

    def run(self, claim: Claim) -> Outcome[Any]:
        body = encode(finished(self.func()))
        kept = body if len(body) <= conf.MAX_BODY_BYTES else None
        return Outcome(decode(body), Snapshot(200, _HEADERS, kept))

    def refuse(self, claim: Claim, error: Exception) -> Outcome[Any]:
        raise error


def _operation(
    key: str, scope: str, fingerprint: str | None, retention: float | timedelta | None
) -> Operation:
    if not isinstance(key, str):
        raise KeyInvalid(f"The key of an operation must be a str, and this one is a {type(key).__name__}.")
    for name, value in (("scope", scope), ("fingerprint", fingerprint or "")):
        if not isinstance(value, str):
            raise TypeError(
                f"The {name} of an operation must be a str, and this one is a {type(value).__name__}."
            )
    return Operation(
        scope=f"function:{quote(scope, safe=':@.+~-_', errors='surrogatepass')}",
        key=checked_key(key, max_length=conf.KEY_MAX_LENGTH),
        fingerprint=fingerprint_of(
            ("function", b"" if fingerprint is None else fingerprint.encode("utf-8", "surrogatepass"))
        ),
        retention=conf.retention(retention),
    )


def _stored_value(snapshot: Snapshot) -> Any:
    if snapshot.body is None:
        raise ResultExpired("The function ran, and its value was too large to keep: do not run it again.")
    return decode(snapshot.body)
