"""What is behind a URL's callback: a function, a class, or a class behind somebody's decorator.

A class-based view is guarded from inside, at its handler: what its ``dispatch()`` checks, and what wraps that, runs
before a replay as before the first run (invariant I6).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol, cast

from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.views import View

from django_idempotency.calls import Call
from django_idempotency.class_views import guarded_subclass, handler_options
from django_idempotency.options import EXEMPT, GUARDED, MARK, SITE_DOOR, Options
from django_idempotency.wrappers import alike, held_by, only_way, rewrapped, within

Callback = Callable[..., Any]


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

    ``functools.wraps`` copies ``cls`` to whatever is wrapped around a callback: only the code tells, and what it holds.
    """
    cls = class_of(callback)
    if cls is None:
        return False
    try:
        reference = _as_view(cls, callback)
    except Exception:  # noqa: BLE001 (an as_view() of the project that asks for more than it left on the callback)
        return False
    return alike(callback, reference)


def rebuilt(callback: Callback, options: Options, marks: Collection[str] = ()) -> Callback:
    """Return what ``callback`` does, with its handlers guarded from inside; for a bare callback only.

    ``marks`` are the aliases of ``@transaction.non_atomic_requests`` above it.
    """
    cls = class_of(callback)
    assert cls is not None
    if (cls, options) not in _classes:
        _classes[cls, options] = _subclass(cls, options)
    made: Any = _as_view(_classes[cls, options], callback)
    made._non_atomic_requests.update(marks, _marks(callback))
    return cast(Callback, made)


def guarded_inside(callback: Callback, options: Options, marks: Collection[str] = ()) -> Callback | None:
    """Return what ``callback`` does, decorators and all, with its handlers guarded from inside.

    None where there is no class behind it, or where a decorator may have another way to it than the one that is seen.
    """
    if is_bare(callback):
        try:
            return rebuilt(callback, options, marks)
        except Exception:  # noqa: BLE001 (a class that does not let itself be subclassed so)
            return None
    wrapped = getattr(callback, "__wrapped__", None) if class_of(callback) else None
    guarded = wrapped and guarded_inside(wrapped, options, {*marks, *_marks(callback)})
    return guarded and rewrapped(callback, wrapped, guarded)


def is_marked(callback: Callback) -> bool:
    """Tell whether a door has what this callback calls, or ``@idempotency_exempt`` keeps all doors off it."""
    called = (each for view in only_way(callback) for each in (view, class_of(view)))
    return any(getattr(each, name, None) for each in called for name in (EXEMPT, MARK, GUARDED))


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
    return guarded_subclass(cls, options)


def _marks(callback: Callback) -> Collection[str]:
    return getattr(callback, "_non_atomic_requests", ())


def _as_view(cls: type, callback: Callback) -> Callback:
    """Return ``cls.as_view()`` with the arguments that ``callback`` was made with."""
    actions = getattr(callback, "actions", None)
    kwargs = getattr(callback, "initkwargs", None) or getattr(callback, "view_initkwargs", None) or {}
    made: Callback = cls.as_view(*(() if actions is None else (dict(actions),)), **kwargs)  # type: ignore[attr-defined]
    return made
