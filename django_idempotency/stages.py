"""How far the engine's transaction got, and how it is left without a commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from django_idempotency.core.operations import Claim, Outcome
from django_idempotency.exceptions import IdempotencyError

T = TypeVar("T")

_AFTER_COMMIT = (
    "The operation is committed, so a retry gets its answer, but an on_commit() hook of it raised {}."
)


class RolledBack(Exception):
    """Leaves the transaction without a commit, and says why: an outcome not to store as it is, or an error."""

    def __init__(self, outcome: Outcome[Any] | None = None, error: Exception | None = None) -> None:
        self.outcome = outcome
        self.error = error


def called(call: Callable[[Claim], Outcome[T]], claim: Claim) -> Outcome[T]:
    """Run a project's code, whose error leaves the transaction."""
    try:
        return call(claim)
    except Exception as error:
        raise RolledBack(error=error) from error


class Repeat(Exception):
    """The transaction is undone and the operation may run again."""


@dataclass
class Stage:
    """How far a transaction got: what its failure means depends on it.

    Around the transaction, it tells the refusal of another operation, made in a hook, from one of this operation.
    """

    begun_at: float = field(default_factory=time.time)
    claim: Claim | None = None
    outcome: Outcome[Any] | None = None
    committed: bool = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.committed and isinstance(error, IdempotencyError):
            raise RuntimeError(_AFTER_COMMIT.format(type(error).__name__)) from error
