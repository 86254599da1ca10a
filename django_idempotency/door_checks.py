"""System checks of the doors: where they stand, and which views they cannot guard as they should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.checks import register as register_check
from django.urls import get_resolver
from django.utils.decorators import method_decorator

from django_idempotency.callbacks import (
    class_inside,
    class_of,
    guarded_inside,
    is_drf,
    is_marked,
    is_marked_operation,
    is_site_door,
    operations,
)
from django_idempotency.checks import RULES, is_readable
from django_idempotency.class_views import answers_in_dispatch
from django_idempotency.conf import conf
from django_idempotency.options import EXEMPT, GUARDED, MARK, Options, options_of
from django_idempotency.routes import Route, routes
from django_idempotency.wrappers import variables

Apps = Sequence[AppConfig] | None

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"


def register() -> None:
    """Register the checks of this module."""
    register_check(check_middleware)
    register_check(check_views)
    register_check(check_paths)


def check_middleware(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """E005: the middleware without paths; E006: before another one, or listed twice; W002: paths without it."""
    installed = [is_site_door(name) for name in settings.MIDDLEWARE or ()]
    paths = _list("MIDDLEWARE_PATHS")
    if not any(installed):
        return [_unused()] if paths else []
    misplaced = [_twice()] if installed.count(True) > 1 else [] if installed[-1] else [_not_last()]
    return [*([] if paths else [_no_paths()]), *misplaced]


def check_paths(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """W004: a path that no URL is under, so that what it was meant for is not guarded."""
    if not _is_sole_urlconf() or not any(is_site_door(name) for name in settings.MIDDLEWARE or ()):
        return []
    known = list(routes(get_resolver()))
    return [
        CheckWarning(
            f"IDEMPOTENCY['MIDDLEWARE_PATHS'] names {path!r}, and no URL is under it: it guards nothing.",
            hint="Correct the path; it has no SCRIPT_NAME in front.",
            id="django_idempotency.W004",
        )
        for path in _list("MIDDLEWARE_PATHS")
        if not any(route.may_be_under(path) for route in known)
    ]


def _is_sole_urlconf() -> bool:
    """Tell whether there is one URLconf; a host or a tenant of its own has a setting that says so."""
    names = {name for name in dir(settings) if "URLCONF" in name or "HOSTCONF" in name}
    return names == {"ROOT_URLCONF"} and bool(settings.ROOT_URLCONF)


def check_views(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """E007: a view that no door can guard as it should; W003: a check that comes after the door."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = [message for route in routes(get_resolver()) for message in _judged(route)]
    # Ninja has one pattern for each operation of a path, and behind each of them are all.
    return [message for at, message in enumerate(found) if message not in found[:at]]


def _judged(found: Route) -> Iterator[CheckMessage]:
    route, view = found.text, found.view
    under = _may_be_under_paths(found) and not is_marked(view)
    if options_of(getattr(class_of(view), "dispatch", None)) is not None:
        yield _error(
            f"/{route}: @idempotent is on dispatch(), where a replay would come before the checks of the class.",
            "Put it on the handlers: @method_decorator(idempotent, name='post').",
        )
    elif under and (inside := operations(view)) is not None:
        concerned = (each for each in inside if {*each.methods} & {*_list("METHODS")})
        yield from (_unguarded(route, each) for each in concerned if not is_marked_operation(each))
    elif under and guarded_inside(view, Options()) is None and _may_answer(class_inside(view)):
        yield _error(
            f"/{route}: the middleware cannot guard a class behind this decorator, and stands aside.",
            "Put the decorator on dispatch() with method_decorator, or IdempotencyMixin or @idempotent on the view "
            "itself, or @idempotency_exempt above the decorator.",
        )
    elif name := next(filter(None, map(_check_below, _guarded(view, under))), None):
        yield CheckWarning(
            f"/{route}: {name} comes after the door, so a replay does not ask it again.",
            hint="Put @idempotent below it, or check in a middleware or in dispatch().",
            obj=view,
            id="django_idempotency.W003",
        )


def _may_answer(cls: type | None) -> bool:
    """Tell whether a class may have a handler for a guarded method; what a ViewSet's actions are is not known here."""
    if cls is None or is_drf(cls) or answers_in_dispatch(cls):
        return cls is not None
    return any(hasattr(cls, method.lower()) for method in _list("METHODS"))


def _guarded(view: Any, under: bool) -> Iterator[Any]:
    """Yield what a door stands around: a function, or handlers of a class."""
    cls, marked = class_of(view), getattr(view, MARK, None) is not None
    if cls is None:
        yield from [view] if marked or under else []
        return
    all_of_them = marked or under or hasattr(cls, GUARDED)
    actions = getattr(view, "actions", None) or {}
    names = (actions.get(method.lower(), method.lower()) for method in _list("METHODS"))
    own = getattr(answers_in_dispatch(cls), "dispatch", None)
    for handler in (getattr(cls, name, own) for name in names):
        if not hasattr(handler, EXEMPT) and (all_of_them or options_of(handler)):
            yield handler


def _unguarded(route: str, operation: Any) -> Error:
    name = getattr(operation.view_func, "__qualname__", repr(operation.view_func))
    return _error(
        f"/{route}: the middleware cannot guard {name}(), an operation of Django Ninja, and stands aside.",
        "Put django_idempotency.contrib.ninja.idempotent or @idempotency_exempt below the operation's decorator.",
    )


def _error(message: str, hint: str) -> Error:
    return Error(message, hint=hint, id="django_idempotency.E007")


def _check_below(view: Any) -> str | None:
    """Name the authorising decorator that stands between a door and the view, or None.

    ``user_passes_test`` is behind all of Django's own; ``login_required`` is left out, since the scope holds the
    user: somebody who is logged out has another.
    """
    for layer in _layers(_below_door(view)):
        test = variables(layer).get("test_func")
        name = getattr(test, "__qualname__", "").partition(".")[0]
        if test is not None and name != "login_required":
            return "@permission_required" if name == "permission_required" else "@user_passes_test"
    return None


def _layers(view: Any) -> Iterator[Any]:
    """Yield a view and what it wraps, and what ``method_decorator`` will wrap around it with each call."""
    while view is not None:
        yield view
        if getattr(view, "__globals__", {}).get("__name__") == method_decorator.__module__:
            for decorate in variables(view).get("decorators", ()):
                yield from _layers(decorate(lambda request: None))
        view = getattr(view, "__wrapped__", None)


def _below_door(view: Any) -> Any:
    """Return what ``@idempotent`` decorates: the decorators above it have copied its mark."""
    while getattr(view, MARK, None) is not None:
        view = getattr(view, "__wrapped__", None)
    return view


def _may_be_under_paths(route: Route) -> bool:
    return any(route.may_be_under(path) for path in _list("MIDDLEWARE_PATHS"))


def _list(name: str) -> list[str]:
    """Return a setting that is a list, or nothing where E001 or E002 have to be corrected first."""
    value = getattr(conf, name) if is_readable() else []
    return value if RULES[name][0](value) else []


def _no_paths() -> Error:
    return Error(
        "IdempotencyMiddleware guards nothing: IDEMPOTENCY['MIDDLEWARE_PATHS'] names no path.",
        hint='Name the paths to guard, for example ["/api/"], or ["/"] for the whole site.',
        id="django_idempotency.E005",
    )


def _not_last() -> Error:
    return Error(
        "IdempotencyMiddleware must be the last in MIDDLEWARE: it would replay before what the later ones check.",
        hint="Move it to the end of MIDDLEWARE.",
        id="django_idempotency.E006",
    )


def _twice() -> Error:
    return Error(
        "IdempotencyMiddleware is in MIDDLEWARE twice: the first would replay before what the later ones check.",
        hint="Leave it at the end of MIDDLEWARE only.",
        id="django_idempotency.E006",
    )


def _unused() -> CheckWarning:
    return CheckWarning(
        "IDEMPOTENCY['MIDDLEWARE_PATHS'] is set, and IdempotencyMiddleware is not in MIDDLEWARE: it guards nothing.",
        hint=f"Add {MIDDLEWARE!r} at the end of MIDDLEWARE.",
        id="django_idempotency.W002",
    )
