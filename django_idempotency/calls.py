"""One call of a view, whatever kind of callable it is, and who has its request in hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import MethodType
from typing import Any

from django.http import HttpRequest

from django_idempotency.early import EarlyTransaction
from django_idempotency.execution import finished

_ACTIVE = "_idempotency_active"
_REACHED = "_idempotency_reached"


@dataclass
class Call:
    """One call of a view: a function, or a method of ``owner``, with its request and arguments.

    ``early`` is the transaction of ATOMIC_REQUESTS that the door around it has opened, and nobody else's.
    """

    function: Callable[..., Any]
    owner: Any
    request: HttpRequest
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    early: EarlyTransaction | None = None

    @classmethod
    def of(cls, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return the call of a function view ``(request, …)`` or of a method ``(self, request, …)``.

        ``method_decorator`` hands a partial of the bound method to its decorators. Raises TypeError where no request
        is among the first two arguments: then the decorated thing is no view.
        """
        bound = view.func if isinstance(view, partial) and not view.args else view
        if isinstance(bound, MethodType):
            view, args = bound.__func__, (bound.__self__, *args)
        if args and is_request(args[0]):
            return cls(view, None, args[0], args[1:], kwargs)
        if len(args) > 1 and is_request(args[1]):
            return cls(view, args[0], args[1], args[2:], kwargs)
        name = getattr(view, "__qualname__", repr(view))
        raise TypeError(
            f"@idempotent guards views, and {name} got no request: use @idempotent_function for other code."
        )

    def __call__(self) -> Any:
        first = () if self.owner is None else (self.owner,)
        return finished(self.function(*first, self.request, *self.args, **self.kwargs))


class Active:
    """Mark a request while a door has it in hand, so that a door inside that one passes it on."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    def __enter__(self) -> None:
        setattr(self._request, _ACTIVE, True)
        mark_reached(self._request)

    def __exit__(self, *error: object) -> None:
        self._request.__dict__.pop(_ACTIVE, None)


def is_active(request: HttpRequest) -> bool:
    """Tell whether another door has this request in hand: one operation, one record."""
    return hasattr(request, _ACTIVE)


def was_reached(request: HttpRequest) -> bool:
    """Tell whether any door has had this request in hand."""
    return hasattr(request, _REACHED)


def mark_reached(request: HttpRequest) -> None:
    """Remember that a door has had this request in hand, or has said that none had: it is said once."""
    setattr(request, _REACHED, True)


def is_request(value: object) -> bool:
    """Tell whether ``value`` is Django's request, or one that wraps it as DRF's does."""
    return isinstance(value, HttpRequest) or isinstance(getattr(value, "_request", None), HttpRequest)
