"""What metrics are made of: each keyed call comes to one outcome, told by the signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import IdempotencyError
from django_idempotency.signals import completed, rejected, released, replayed


@dataclass(frozen=True)
class Event:
    """One keyed call: ``completed``, ``released``, ``replayed``, or the code of its refusal.

    ``view`` is the route as the URLconf has it, or the scope of a function, so there are as many as a project has.
    ``waited`` is in seconds; None where nobody can have waited.
    """

    outcome: str
    view: str
    method: str
    database: str
    record_id: UUID
    waited: float | None = None


def observe(receive: Callable[[Event], object], uid: str) -> None:
    """Let ``receive`` be called with every event from now on; once per ``uid``, however often this is called."""

    def on_completed(operation: Operation, using: str, **kwargs: Any) -> None:
        receive(_event("completed", operation, using))

    def on_released(operation: Operation, using: str, **kwargs: Any) -> None:
        receive(_event("released", operation, using))

    def on_replayed(operation: Operation, using: str, waited: float = 0.0, **kwargs: Any) -> None:
        receive(_event("replayed", operation, using, waited))

    def on_rejected(
        operation: Operation, error: IdempotencyError, using: str, waited: float = 0.0, **kwargs: Any
    ) -> None:
        receive(_event(error.code, operation, using, waited))

    completed.connect(on_completed, weak=False, dispatch_uid=uid)
    released.connect(on_released, weak=False, dispatch_uid=uid)
    replayed.connect(on_replayed, weak=False, dispatch_uid=uid)
    rejected.connect(on_rejected, weak=False, dispatch_uid=uid)


def _event(outcome: str, operation: Operation, using: str, waited: float | None = None) -> Event:
    _, space, route = operation.scope.partition(" ")
    return Event(outcome, route if space else operation.scope, operation.method, using, operation.id, waited)
