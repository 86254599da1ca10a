"""The door for a whole site: one line in MIDDLEWARE, last, and the paths that it guards."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from django.db import connections, transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.utils.deprecation import MiddlewareMixin

from django_idempotency.callbacks import (
    checks_inside,
    class_of,
    guarded_inside,
    is_drf,
    is_marked,
    marked_handler,
)
from django_idempotency.calls import Call
from django_idempotency.claims.registry import record_alias
from django_idempotency.class_views import told
from django_idempotency.conf import conf
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.execution import finished, on_thread
from django_idempotency.guards import Policy, once
from django_idempotency.options import Options
from django_idempotency.refusals import refusal

_POLICY = Policy(Options())


class IdempotencyMiddleware(MiddlewareMixin):
    """Makes POST and PATCH under MIDDLEWARE_PATHS take effect once per key, and gives retries the first answer.

    It stands last in MIDDLEWARE and answers in ``process_view``, so CSRF protection, log-in and whatever else the
    other middlewares check come before every replay. Class-based views, DRF's among them, are guarded from inside,
    after their own checks; a function view is guarded as a whole: what its decorators check is not seen, and only
    the scope keeps callers apart. It stands aside for views that another door guards, for ``@idempotency_exempt``,
    and for a class behind a decorator that it cannot see through (a system check names it). Sync and async.
    """

    _idempotency_site_door = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        if self.async_mode:
            self.process_view = self._aprocess_view  # type: ignore[method-assign,assignment]

    def process_view(
        self, request: HttpRequest, callback: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Answer a keyed request, or return None and leave the request to Django."""
        return _answer(request, callback, args, kwargs) if _is_concerned(request, callback) else None

    async def _aprocess_view(
        self, request: HttpRequest, callback: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        if not _is_concerned(request, callback):
            return None
        return await on_thread(_answer, request, callback, args, kwargs)


def is_under_paths(path: str) -> bool:
    """Tell whether MIDDLEWARE_PATHS names ``path`` or a folder above it: ``/pay`` does not stand for ``/payments``."""
    return any(f"{path}/".startswith(f"{prefix.rstrip('/')}/") for prefix in conf.MIDDLEWARE_PATHS)


@dataclass(frozen=True)
class _Target:
    """What to call for a guarded request; ``inside`` if it guards itself, ``drf`` if only it can find the key."""

    view: Callable[..., Any]
    inside: bool
    drf: bool


def _target(callback: Callable[..., Any]) -> _Target | None:
    """Return what to call, or None where the middleware stands aside."""
    return _cached_target(callback) if isinstance(callback, Hashable) else _found_target(callback)


def _found_target(callback: Callable[..., Any]) -> _Target | None:
    if is_marked(callback):
        return None
    inside = guarded_inside(callback, Options())
    if inside is not None:
        return _Target(inside, inside=True, drf=is_drf(class_of(callback)))
    return None if checks_inside(callback) else _Target(callback, inside=False, drf=False)


_cached_target = lru_cache(maxsize=4096)(_found_target)


def _is_concerned(request: HttpRequest, callback: Callable[..., Any]) -> bool:
    return (
        is_under_paths(request.path_info)
        and _POLICY.may_be_keyed(request)
        and _target(callback) is not None
        and not marked_handler(callback, request)
    )


def _answer(
    request: HttpRequest, callback: Callable[..., Any], args: Any, kwargs: Any
) -> HttpResponseBase | None:
    target = _target(callback)
    assert target is not None
    view = _atomic_elsewhere(target.view, callback)
    try:
        key = None if target.drf else _POLICY.key(request)
        if key is None and not target.drf:
            return None
        if target.inside or key is None:
            response = told(target.view, request, view(request, *args, **kwargs))
        else:
            response = once(Call(view, None, request, args, kwargs), _POLICY, key)
    except IdempotencyError as error:
        return refusal(request, error)
    except Exception as error:  # noqa: BLE001 (it is raised again where Django handles a view's exceptions)
        return _Raised(error)
    return response if response is not None else _Raised(_nothing(callback))


class _Raised(SimpleTemplateResponse):
    """An exception on its way out of ``process_view``.

    Django shows a view's exceptions to ``process_exception`` of all middlewares, and those of ``process_view`` to
    none. What ``render()`` raises it treats as the view's.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(template=[], context={})
        self._error = error

    def render(self) -> NoReturn:
        raise self._error


def _atomic_elsewhere(view: Any, callback: Callable[..., Any]) -> Callable[..., Any]:
    """Open what ATOMIC_REQUESTS asks for on the other aliases, as Django does around the views that it calls itself."""
    exempt = getattr(callback, "_non_atomic_requests", ())
    view = _awaiting(view)
    for alias, settings in connections.settings.items():
        if settings["ATOMIC_REQUESTS"] and alias not in exempt and alias != record_alias():
            view = transaction.atomic(using=alias)(view)
    return view


def _awaiting(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return a view that awaits an async one: a transaction must end after it, not when its coroutine is made."""
    return lambda *args, **kwargs: finished(view(*args, **kwargs))


def _nothing(callback: Callable[..., Any]) -> Exception:
    return ValueError(f"The view {callback.__module__}.{callback.__qualname__} returned no HttpResponse.")
