"""System checks of what views say for themselves: attributes and hooks of ``IdempotencyMixin``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.checks import register as register_check
from django.urls import get_resolver

from django_idempotency.callbacks import class_of
from django_idempotency.checks import RULES
from django_idempotency.options import EXEMPT, GUARDED, MARK
from django_idempotency.routes import routes

ATTRIBUTES = {
    "idempotency_required": "REQUIRED",
    "idempotency_methods": "METHODS",
    "idempotency_retention": "RETENTION",
    "idempotency_wait_seconds": "WAIT_SECONDS",
    "idempotency_ignore_fields": "FINGERPRINT_IGNORE",
    "idempotency_store_body": "STORE_BODY",
}
_OURS = ("idempotency_", "get_idempotency_", "authorize_idempotent_")


def register() -> None:
    """Register the check of this module."""
    register_check(check_attributes)


def check_attributes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E008: an attribute of the wrong kind, 500 at the first key; W005: one that nothing reads."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found: list[CheckMessage] = []
    for route in routes(get_resolver()):
        cls = class_of(route.view)
        if cls is not None:
            found += _mistaken(cls, _said(cls, route.view)) if hasattr(cls, GUARDED) else _in_vain(cls)
    return [message for at, message in enumerate(found) if message not in found[:at]]


def _said(cls: type, view: Any) -> dict[str, Any]:
    """Return what a class says under our names, with the arguments of its ``as_view()`` over that."""
    own = {name: getattr(cls, name) for name in dir(cls) if name.startswith(_OURS)}
    given = getattr(view, "initkwargs", None) or getattr(view, "view_initkwargs", None) or {}
    return {**own, **{name: value for name, value in given.items() if name.startswith(_OURS)}}


def _mistaken(cls: type, said: dict[str, Any]) -> Iterator[CheckMessage]:
    for name, value in said.items():
        if name in ATTRIBUTES:
            accepts, wanted = RULES[ATTRIBUTES[name]]
            # A property, or another descriptor, has its value when there is a request.
            if value is not None and not hasattr(value, "__get__") and not accepts(value):
                yield Error(
                    f"{cls.__qualname__}.{name} has a value that cannot be used: {value!r}.",
                    hint=f"Set it to {wanted}, or to None for the setting's.",
                    obj=cls,
                    id="django_idempotency.E008",
                )
        elif not _is_known(cls, name):
            yield _unread(cls, name, _did_you_mean(cls, name))


def _in_vain(cls: type) -> Iterator[CheckMessage]:
    for name in ATTRIBUTES:
        if hasattr(cls, name):
            yield _unread(cls, name, "Put IdempotencyMixin in front of the bases of the class.")


def _unread(cls: type, name: str, hint: str) -> CheckMessage:
    message = f"Nothing reads {cls.__qualname__}.{name}."
    return CheckWarning(message, hint=hint, obj=cls, id="django_idempotency.W005")


def _known(cls: type) -> list[str]:
    """Return the names that the mixin has, without an import of it."""
    mixin = next(each for each in reversed(cls.__mro__) if GUARDED in vars(each))
    return [name for name in dir(mixin) if name.startswith(_OURS)]


def _is_known(cls: type, name: str) -> bool:
    return name in (EXEMPT, MARK) or name in _known(cls)


def _did_you_mean(cls: type, name: str) -> str:
    known = _known(cls)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f"Did you mean {close[0]!r}?" if close else f"Known names: {', '.join(known)}."
