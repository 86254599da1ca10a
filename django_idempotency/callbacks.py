"""What is behind a URL's callback: a function, a class, or a class behind somebody's decorator.

A class-based view is guarded from inside, at its handler: what its ``dispatch()`` checks, and what wraps that, runs
before a replay as before the first run (invariant I6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.views import View

from django_idempotency.calls import Call
from django_idempotency.claims.registry import record_alias
from django_idempotency.guards import atomic_by_door, guarded, shadow
from django_idempotency.options import EXEMPT, GUARDED, MARK, SITE_DOOR, Options, options_of

Callback = Callable[..., Any]

_DEPTH = 8
_MANY = 100


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
    made: Any = _as_view(_classes[cls, options], callback)
    made._non_atomic_requests.update(getattr(callback, "_non_atomic_requests", ()))
    return cast(Callback, made)


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
    cells = getattr(getattr(handler, "__func__", handler), "__closure__", None) or ()
    found = (options_of(cell.cell_contents) for cell in cells if _is_filled(cell))
    return next((options for options in found if options is not None), None)


def authenticates_inside(callback: Callback) -> bool:
    """Tell whether a framework's view is behind ``callback``, however wrapped: it is not to be guarded from outside."""
    return any(_is_framework(each) for each in _inner(callback))


def operations(callback: Callback) -> list[Any] | None:
    """Return Django Ninja's operations behind a callback, or None if it is not one of ninja's."""
    views = [view for view in _inner(callback) if _is_ninja(view)]
    found = (getattr(held, "operations", None) or () for view in views for held in _held(view))
    return [operation for each in found for operation in each] if views else None


def is_marked_operation(operation: Any) -> bool:
    """Tell whether a door has this operation of Django Ninja, or ``@idempotency_exempt`` is on its function."""
    return hasattr(operation, GUARDED) or hasattr(operation.view_func, EXEMPT)


def _is_framework(view: Any) -> bool:
    return is_drf(class_of(view)) or _is_ninja(view)


def _is_ninja(view: Any) -> bool:
    return not isinstance(view, type) and (getattr(view, "__module__", None) or "").startswith("ninja.")


def _inner(callback: Any) -> Iterator[Any]:
    """Yield a callback and the callables that it holds: wrapped, partial, bound, in closures or as attributes."""
    seen: dict[int, Any] = {}
    waiting = [callback]
    while waiting and len(seen) < _MANY:
        view = waiting.pop(0)
        if id(view) not in seen and callable(view):
            seen[id(view)] = view
            yield view
            waiting += _held(view)


def _held(view: Any) -> Iterator[Any]:
    for name in ("__wrapped__", "__self__", "func"):
        yield getattr(view, name, None)
    for cell in getattr(view, "__closure__", None) or ():
        if _is_filled(cell):
            yield cell.cell_contents
    if not isinstance(view, type):
        yield from getattr(view, "__dict__", {}).values()


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is bound later
        return False


def _subclass(cls: type, options: Options) -> type:
    if is_drf(cls):
        return framework("rest_framework").subclass(cls, options)
    return subclass_of(cls, (_Guarded, cls), {"_idempotency": options})


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
        if handler is not None:
            setattr(self, method, self._shadow(handler, handler_options(handler) or self._idempotency))
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return answer

    def _shadow(self, handler: Callback, options: Options) -> Callback:
        # The callback has opened what ATOMIC_REQUESTS asks for, but for an async one.
        opened = () if self.view_is_async else (record_alias(),)
        return shadow(handler, options, lambda call: guarded(call, options, non_atomic=opened))


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
