"""What is behind a URL's callback: a function, a class, or a class behind somebody's decorator.

A class-based view is guarded from inside, at its handler: what its ``dispatch()`` checks, and what wraps that, runs
before a replay as before the first run (invariant I6).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import iscoroutine, unwrap
from typing import Any, Protocol

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.views import View

from django_idempotency.calls import Call, was_reached
from django_idempotency.guards import Policy, shadow
from django_idempotency.http import raw_key
from django_idempotency.options import EXEMPT, GUARDED, MARK, SITE_DOOR, Options, options_of
from django_idempotency.wrappers import held_by, rewrapped, variables, within

Callback = Callable[..., Any]

_DEPTH = 8

logger = logging.getLogger("django_idempotency")


class Framework(Protocol):
    """How a framework's views are guarded from inside; its sub-package hands one in with ``install()``."""

    def subclass(self, cls: type, options: Options) -> type:
        """Return a subclass of a view class whose handlers are guarded."""

    def guarded(self, call: Call, options: Options) -> Any:
        """Answer one call of a handler that was decorated itself."""


_frameworks: dict[str, Framework] = {}
_classes: dict[tuple[type, Options], type] = {}


def install(name: str, framework: Framework) -> None:
    """Register how the views of ``name`` are guarded."""
    _frameworks[name] = framework


def framework(name: str) -> Framework:
    """Return the guard of a framework; its views cannot exist before ``INSTALLED_APPS`` is loaded."""
    return _frameworks[name]


def class_of(callback: Callback) -> type | None:
    """Return the class behind the callback of a class-based view, or None."""
    cls = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    return cls if isinstance(cls, type) else None


def is_drf(cls: type | None) -> bool:
    """Tell whether a class is a view of Django REST framework, without importing it."""
    return hasattr(cls, "initialize_request") and hasattr(cls, "perform_authentication")


def is_bare(callback: Callback) -> bool:
    """Tell whether a callback is just what its class's ``as_view()`` returns, so that nothing is lost by rebuilding it.

    ``functools.wraps`` copies ``cls`` to whatever is wrapped around a callback: only the code tells.
    """
    cls = class_of(callback)
    if cls is None:
        return False
    try:
        reference = _as_view(cls, callback)
    except Exception:  # noqa: BLE001 (an as_view() of the project that asks for more than it left on the callback)
        return False
    return _layers(callback) == _layers(reference)


def rebuilt(callback: Callback, options: Options) -> Callback:
    """Return what ``callback`` does, with its handlers guarded from inside; for a bare callback only."""
    cls = class_of(callback)
    assert cls is not None
    if (cls, options) not in _classes:
        _classes[cls, options] = _subclass(cls, options)
    return _as_view(_classes[cls, options], callback)


def guarded_inside(callback: Callback, options: Options) -> Callback | None:
    """Return what ``callback`` does, decorators and all, with its handlers guarded from inside.

    None where there is no class behind it, or where a decorator may have another way to it than the one that is seen.
    """
    if is_bare(callback):
        return rebuilt(callback, options)
    wrapped = getattr(callback, "__wrapped__", None) if class_of(callback) else None
    guarded = wrapped and guarded_inside(wrapped, options)
    return guarded and rewrapped(callback, wrapped, guarded)


def is_marked(callback: Callback) -> bool:
    """Tell whether a door has this callback already, or ``@idempotency_exempt`` keeps all doors off it."""
    cls = class_of(callback)
    return any(getattr(each, name, None) for each in (callback, cls) for name in (EXEMPT, MARK, GUARDED))


def marked_handler(callback: Callback, request: HttpRequest) -> bool:
    """Tell whether the handler that will answer ``request`` is decorated or exempted itself."""
    cls, method = class_of(callback), (request.method or "").lower()
    name = (getattr(callback, "actions", None) or {}).get(method, method)
    handler = getattr(cls, name, None)
    return getattr(handler, EXEMPT, False) or handler_options(handler) is not None


def is_site_door(name: str) -> bool:
    """Tell whether an entry of MIDDLEWARE is ``IdempotencyMiddleware``, or a subclass of it."""
    try:
        return getattr(import_string(name), SITE_DOOR, False)
    except ImportError:  # Django tells it when it loads the entry
        return False


def handler_options(handler: Any) -> Options | None:
    """Return the options of a decorated handler; ``@api_view`` keeps the decorated function in a closure."""
    own = options_of(handler)
    if own is not None:
        return own
    found = map(options_of, variables(getattr(handler, "__func__", handler)).values())
    return next((options for options in found if options is not None), None)


def checks_inside(callback: Callback) -> bool:
    """Tell whether a class or a framework's view is behind ``callback``, not to be guarded from outside."""
    return class_inside(callback) is not None or any(map(_is_ninja, within(callback)))


def class_inside(callback: Callback) -> type | None:
    """Return the view class behind a callback, however wrapped, or None."""
    found = (class_of(view) for view in within(callback))
    return next((cls for cls in found if cls is not None and issubclass(cls, View)), None)


def operations(callback: Callback) -> list[Any] | None:
    """Return Django Ninja's operations behind a callback, or None if it is not one of ninja's."""
    views = [view for view in within(callback) if _is_ninja(view)]
    found = (getattr(held, "operations", None) or () for view in views for held in held_by(view))
    return [operation for each in found for operation in each] if views else None


def is_marked_operation(operation: Any) -> bool:
    """Tell whether a door has this operation of Django Ninja, or ``@idempotency_exempt`` is on its function."""
    return hasattr(operation, GUARDED) or hasattr(operation.view_func, EXEMPT)


def _is_ninja(view: Any) -> bool:
    return not isinstance(view, type) and (getattr(view, "__module__", None) or "").startswith("ninja.")


def _subclass(cls: type, options: Options) -> type:
    if is_drf(cls):
        return framework("rest_framework").subclass(cls, options)
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

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        method = (request.method or "").lower()
        handler = getattr(self, method, None) if method in self.http_method_names else None
        options = handler_options(handler) or self._idempotency
        if handler is not None:
            setattr(self, method, shadow(handler, options))
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
        own: Any = super().dispatch if has_handler else shadow(super().dispatch, self._idempotency)
        answer: HttpResponseBase = own(request, *args, **kwargs)
        return answer


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
    if raw_key(request) is not None and not was_reached(request) and response.status_code // 100 == 2:
        logger.error(
            "%s answered a %s with a key past its guarded handler, so that a retry runs again: put @idempotent on "
            "the method that answers",
            type(view).__qualname__,
            request.method,
        )
    return response


async def _atold(view: Any, request: HttpRequest, response: Awaitable[HttpResponseBase]) -> HttpResponseBase:
    return told(view, request, await response)


def _as_view(cls: type, callback: Callback) -> Callback:
    """Return ``cls.as_view()`` with the arguments that ``callback`` was made with."""
    actions = getattr(callback, "actions", None)
    kwargs = getattr(callback, "initkwargs", None) or getattr(callback, "view_initkwargs", None) or {}
    made: Callback = cls.as_view(*(() if actions is None else (dict(actions),)), **kwargs)  # type: ignore[attr-defined]
    return made


def _layers(callback: Any) -> list[Any]:
    codes: list[Any] = []
    while callback is not None and len(codes) <= _DEPTH:
        codes.append(getattr(callback, "__code__", type(callback)))
        callback = getattr(callback, "__wrapped__", None)
    return codes
