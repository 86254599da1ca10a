"""What one view or handler says for itself, and the mark by which others find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

MARK = "idempotency_options"
EXEMPT = "idempotency_exempt"
GUARDED = "_idempotency_guarded"
SITE_DOOR = "_idempotency_site_door"

_COMMON = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"}
_WEBDAV = {"COPY", "MOVE", "LOCK", "UNLOCK", "MKCOL", "PROPFIND", "PROPPATCH", "REPORT", "SEARCH"}


@dataclass(frozen=True)
class Options:
    """The options of ``@idempotent``; None means that the setting of the same name decides.

    Raises TypeError for a value of the wrong kind, so at import.
    """

    required: bool | None = None
    methods: Sequence[str] | None = None
    retention: float | timedelta | None = None
    wait_seconds: float | None = None
    scope: Callable[[Any], str] | None = None
    fingerprint: Callable[[Any], str] | None = None
    ignore_fields: Sequence[str] | None = None
    key: Callable[[Any], str | None] | None = None
    store: Callable[[Any], bool] | None = None
    store_body: bool | None = None

    def __post_init__(self) -> None:
        for name in _KINDS:
            value = getattr(self, name)
            require("@idempotent", name, value)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))


def require(where: str, name: str, value: Any) -> None:
    """Raise TypeError if an option that is given to ``where`` is of the wrong kind."""
    accepts, wanted = _KINDS[name]
    if value is not None and not accepts(value):
        raise TypeError(f"{where}({name}={value!r}): give {wanted}.")


def options_of(view: Any) -> Options | None:
    """Return the options that ``@idempotent`` left on a callback or a handler, or None."""
    options = getattr(view, MARK, None)
    return options if isinstance(options, Options) else None


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def is_methods(value: Any) -> bool:
    """Tell whether a value is a list of HTTP methods, as they are sent: in upper case."""
    return _is_names(value) and {*value} <= _COMMON | _WEBDAV


def _is_seconds(value: Any, low: float) -> bool:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= low


_BOOL = (lambda value: isinstance(value, bool), "True or False")
_FUNCTION = (callable, "a callable that takes the request")
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "required": _BOOL,
    "methods": (is_methods, 'a list such as ["POST"]'),
    "retention": (lambda value: _is_seconds(value, 0.001), "seconds above 0, or a timedelta"),
    "wait_seconds": (lambda value: _is_seconds(value, 0), "seconds, 0 or more"),
    "scope": _FUNCTION,
    "fingerprint": _FUNCTION,
    "ignore_fields": (_is_names, "a list of field names"),
    "key": _FUNCTION,
    "store": (callable, "a callable that takes the response"),
    "store_body": _BOOL,
}
