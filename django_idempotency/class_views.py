"""Subclasses of class-based views whose handlers are guarded from inside."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import iscoroutine, unwrap
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views import View

from django_idempotency.calls import Call, mark_reached, was_reached
from django_idempotency.claims.registry import record_alias
from django_idempotency.early import early_of
from django_idempotency.guards import Policy, atomic_by_door, guarded, named_non_atomic, shadow
from django_idempotency.http import raw_key
from django_idempotency.options import EXEMPT, Options, options_of
from django_idempotency.wrappers import variables

logger = logging.getLogger("django_idempotency")


def guarded_subclass(cls: type, options: Options) -> type:
    """Return a subclass whose handlers are guarded, or its ``dispatch()`` where that answers itself."""
    answering = answers_in_dispatch(cls)
    if answering is None:
        return subclass_of(cls, (_Guarded, cls), {"_idempotency": options})
    own = subclass_of(answering, (_GuardedDispatch, answering), {})
    return subclass_of(cls, (_Guarded, *([] if cls is answering else [cls]), own), {"_idempotency": options})


def subclass_of(cls: type, bases: tuple[type, ...], attributes: dict[str, Any]) -> type:
    """Return a subclass that goes by the name of ``cls`` in log lines, error pages and browsable APIs."""
    names = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(cls.__name__, bases, {**names, **attributes})


class _Guarded(View):
    """Shadows the handler, so that ``super().dispatch()`` calls it after all that the project's classes check."""

    _idempotency: Options

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        return atomic_by_door(super().as_view(**initkwargs))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        method = (request.method or "").lower()
        handler = getattr(self, method, None) if method in self.http_method_names else None
        if hasattr(handler, EXEMPT):
            return super().dispatch(request, *args, **kwargs)
        options = handler_options(handler) or self._idempotency
        if handler is not None:
            setattr(self, method, _shadow(self, handler, options))
        answer: Any = super().dispatch(request, *args, **kwargs)
        if not Policy(options).may_be_keyed(request):
            return answer
        tell: Any = _atold if iscoroutine(answer) else told
        return tell(self, request, answer)


class _GuardedDispatch(View):
    """Stands directly before a ``dispatch()`` that answers itself, behind those that check and pass on."""

    _idempotency: Options

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        has_handler = hasattr(self, (request.method or "").lower())
        own: Any = super().dispatch if has_handler else _shadow(self, super().dispatch, self._idempotency)
        answer: HttpResponseBase = own(request, *args, **kwargs)
        return answer


def _shadow(view: View, handler: Callable[..., Any], options: Options) -> Callable[..., Any]:
    # The callback has opened what ATOMIC_REQUESTS asks for, but for an async one.
    opened = named_non_atomic(view.request) if view.view_is_async else {record_alias()}

    def answer(call: Call) -> HttpResponseBase:
        call.early = early_of(call.request)
        return guarded(call, options, non_atomic=opened)

    return shadow(handler, options, answer)


def answers_in_dispatch(cls: type) -> type | None:
    """Return the class whose ``dispatch()`` does not pass on to that of ``View``, which calls the handlers."""
    for each in cls.__mro__:
        code = getattr(unwrap(vars(each).get("dispatch")), "__code__", None)  # type: ignore[arg-type]
        if code is View.dispatch.__code__:
            return None
        if code is not None and "dispatch" not in code.co_names:
            return each
    return None


def told(view: Any, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Log an error where a class answered a request with a key by a handler that no door could see."""
    success = getattr(response, "status_code", 0) // 100 == 2
    if success and raw_key(request) is not None and not was_reached(request):
        mark_reached(request)
        logger.error(
            "%s answered a %s with a key past its guarded handler, so that a retry runs again: put @idempotent on "
            "the method that answers",
            getattr(view, "__qualname__", type(view).__qualname__),
            request.method,
        )
    return response


async def _atold(view: Any, request: HttpRequest, response: Awaitable[HttpResponseBase]) -> HttpResponseBase:
    return told(view, request, await response)


def handler_options(handler: Any) -> Options | None:
    """Return the options of a decorated handler; ``@api_view`` keeps the decorated function in a closure."""
    own = options_of(handler)
    if own is not None:
        return own
    found = map(options_of, variables(getattr(handler, "__func__", handler)).values())
    return next((options for options in found if options is not None), None)
