"""How far the engine's transaction got, and how it is left without a commit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from django_idempotency.core.operations import Claim, Outcome


class RolledBack(Exception):
    """Leaves the transaction without a commit, and says why: an outcome not to store as it is, or an error."""

    def __init__(self, outcome: Outcome[Any] | None = None, error: Exception | None = None) -> None:
        self.outcome = outcome
        self.error = error


class Repeat(Exception):
    """The transaction is undone and the operation may run again."""


@dataclass
class Stage:
    """How far a transaction got: what its failure means depends on it."""

    begun_at: float = field(default_factory=time.time)
    claim: Claim | None = None
    outcome: Outcome[Any] | None = None
    committed: bool = False
