"""Doors for one view, one handler, one function."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from datetime import timedelta
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest

from django_idempotency.callbacks import class_of, framework, is_bare, rebuilt
from django_idempotency.calls import Call
from django_idempotency.claims.registry import RecordAlias
from django_idempotency.execution import aexecute_once, execute_once
from django_idempotency.guards import guarded, shadow
from django_idempotency.options import EXEMPT, MARK, Options, require
from django_idempotency.wrappers import copied

F = TypeVar("F", bound=Callable[..., Any])


@overload
def idempotent(view: F, /) -> F: ...
@overload
def idempotent(**options: Any) -> Callable[[F], F]: ...
def idempotent(view: Any = None, /, **options: Any) -> Any:
    """Make a view take effect once per ``Idempotency-Key``, bare or with options (``required=True``).

    It decorates function views, methods of class-based views (directly or by ``method_decorator`` with their
    name), DRF's ``@api_view`` (above or below) and methods and ``@action``s of ViewSets; sync or async. What is
    checked above it, and in ``dispatch()`` and DRF's ``initial()``, runs before every replay; what a decorator below
    it checks does not. Options: ``required``, ``methods``, ``retention``, ``wait_seconds``, ``scope``,
    ``fingerprint``, ``ignore_fields``, ``key``, ``store``, ``store_body``. Raises TypeError where it cannot guard.
    """
    chosen = Options(**options)
    return _decorated(view, chosen) if view is not None else lambda view: _decorated(view, chosen)


def idempotency_exempt(view: F) -> F:
    """Keep ``IdempotencyMiddleware`` off a view: a log-in, for example, whose failures must be counted.

    A function view is copied, so that it stays guarded where it stands without this; a class is marked itself.
    """
    exempt: Any = copied(view) if isinstance(view, FunctionType) else copy(view)
    setattr(exempt, EXEMPT, True)
    return exempt


def idempotent_function(
    *,
    key: Callable[..., str],
    scope: str,
    fingerprint: Callable[..., str] | None = None,
    retention: float | timedelta | None = None,
    using: str | None = None,
    wait_seconds: float = 0,
) -> Callable[[F], F]:
    """Make a function take effect once per key, and give later callers the first one's value.

    ``key`` and ``fingerprint`` are called with the function's own arguments. The rest is as for
    ``execute_once()``, which a coroutine function gets in its async form.
    """
    if not callable(key):
        raise TypeError("@idempotent_function: key must be a callable that takes the function's arguments.")
    require("@idempotent_function", "retention", retention)
    require("@idempotent_function", "wait_seconds", wait_seconds)
    fixed: dict[str, Any] = {
        "scope": scope,
        "retention": retention,
        "using": using,
        "wait_seconds": wait_seconds,
    }

    def decorate(function: Any) -> Any:
        def options(args: Any, kwargs: Any) -> dict[str, Any]:
            print_of = fingerprint(*args, **kwargs) if fingerprint else None
            return {"key": key(*args, **kwargs), "fingerprint": print_of, **fixed}

        @wraps(function)
        def once(*args: Any, **kwargs: Any) -> Any:
            return execute_once(lambda: function(*args, **kwargs), **options(args, kwargs))

        @wraps(function)
        async def aonce(*args: Any, **kwargs: Any) -> Any:
            return await aexecute_once(lambda: function(*args, **kwargs), **options(args, kwargs))

        return aonce if iscoroutinefunction(function) else once

    return decorate


def _decorated(view: Any, options: Options) -> Any:
    _refuse_misplaced(view)
    door = _class_door(view, options) if class_of(view) else _door(view, options)
    setattr(door, MARK, options)
    return door


def _refuse_misplaced(view: Any) -> None:
    if isinstance(view, type) or not callable(view):
        raise TypeError(
            f"@idempotent guards views, and {view!r} is none: put it on a function or a handler such as post(), "
            "or IdempotencyMixin in front of a DRF class."
        )
    owner, _, name = getattr(view, "__qualname__", "").rpartition(".")
    if name == "dispatch" and owner:
        raise TypeError(
            f"@idempotent on {owner}.dispatch() would answer before what the class checks there: put it on the "
            "handlers, for example @method_decorator(idempotent, name='post')."
        )


def _class_door(callback: Any, options: Options) -> Any:
    """Guard what ``as_view()`` or ``@api_view`` made from inside, so that every check of the class stays before it."""
    if not is_bare(callback):
        raise TypeError(
            f"@idempotent cannot see what is wrapped around {callback.__qualname__}: put it directly above "
            "@api_view or as_view(), and the other decorators above it."
        )
    built: list[Any] = []

    @wraps(callback)
    def inside(*args: Any, **kwargs: Any) -> Any:
        if not built:  # late: a framework is installed when the apps are ready
            built.append(rebuilt(callback, options))
            built[0]._non_atomic_requests = door._non_atomic_requests
        return built[0](*args, **kwargs)

    door = _without_atomic_requests(inside, callback)
    return door


def _door(view: Any, options: Options) -> Any:
    def answer(call: Call) -> Any:
        if isinstance(call.request, HttpRequest):
            return guarded(call, options, non_atomic=set(door._non_atomic_requests))
        return framework("rest_framework").guarded(call, options)

    door = _without_atomic_requests(shadow(view, options, answer), view)
    return door


def _without_atomic_requests(door: Any, view: Any) -> Any:
    """Mark a callback so that the door's transaction takes the place of ATOMIC_REQUESTS' own."""
    door._non_atomic_requests = RecordAlias(getattr(view, "_non_atomic_requests", ()))
    return door
