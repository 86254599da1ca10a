"""One keyed operation from claim to outcome: record and effects in one transaction, or neither (I1, I2)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from django.db import Error, connections, transaction

from django_idempotency import replay_cache
from django_idempotency.claims.base import ClaimLost
from django_idempotency.claims.errors import is_connection_lost, is_repeatable
from django_idempotency.claims.registry import claims_for
from django_idempotency.conf import conf
from django_idempotency.core.operations import Claim, Operation, Outcome, Snapshot
from django_idempotency.early import EarlyTransaction
from django_idempotency.exceptions import IdempotencyError, InProgress, StoreUnavailable
from django_idempotency.models import IdempotencyRecord
from django_idempotency.patience import Patience
from django_idempotency.signals import claimed, completed, rejected, released, replayed
from django_idempotency.stages import Repeat, RolledBack, Stage, called
from django_idempotency.transactions import KeptInOnePiece

T = TypeVar("T")

logger = logging.getLogger("django_idempotency")

_NOT_RUN = "The record store cannot be used, so nothing was executed: retry with the same key."
_LOST = (
    "The connection to the database was lost and the outcome is unknown: retry with the same key to learn it."
)
_STILL_FAILING = "The database kept undoing the transaction and nothing was kept: retry with the same key."
_SWALLOWED = (
    "The view answered with success after a database error that had undone its writes: let the error through."
)
_CLOSED = "The view closed the connection, and its writes went with it: leave that to Django."
_HIDDEN = (
    "The view raised, and its key was claimed again before the answer was stored: the other's was given."
)


class Work(Protocol[T]):
    """What a door hands down: the view, and how to answer when the view raises."""

    def run(self, claim: Claim) -> Outcome[T]:
        """Execute once; called again, on fresh inputs, when the database undid the transaction."""

    def refuse(self, claim: Claim, error: Exception) -> Outcome[T]:
        """Turn what ``run`` raised into an answer, in a transaction that holds none of its writes; or raise."""


def execute(
    operation: Operation,
    work: Work[T],
    *,
    using: str,
    wait: float = 0,
    early: EarlyTransaction | None = None,
) -> Outcome[T] | Snapshot:
    """Run ``work`` once for ``operation``, or return the stored answer of the run that was.

    An Outcome with a snapshot is committed together with every write of the view to ``using``; one without is
    rolled back. Raises InProgress, FingerprintMismatch, OutcomeUnknown or StoreUnavailable, and whatever
    ``work.refuse`` raises. Serialization failures and deadlocks are repeated RETRIES times, unless an outer
    ``atomic()`` is open: only its owner can repeat that, so there the database's error is raised.

    While somebody else executes the operation, its answer is waited for ``wait`` seconds, with no transaction open
    between two looks; inside an outer ``atomic()`` there is no waiting, since that would hold its locks.

    ``early`` is an open transaction on ``using`` that ``Claims.joins()`` accepts: the first run takes it for its own.
    """
    execution = _Execution(operation, work, using, wait, early)
    told = {"operation": operation, "using": using}
    try:
        result = execution.result()
    except IdempotencyError as error:
        rejected.send_robust(IdempotencyRecord, error=error, waited=execution.patience.waited, **told)
        raise
    except RolledBack as left:
        failure = left.error
    else:
        if isinstance(result, Snapshot):
            replayed.send_robust(IdempotencyRecord, snapshot=result, waited=execution.patience.waited, **told)
        return result
    assert failure is not None  # an outcome that was rolled back is returned, never raised
    raise failure


class _Execution(Generic[T]):
    def __init__(
        self, operation: Operation, work: Work[T], using: str, wait: float, early: EarlyTransaction | None
    ) -> None:
        self.operation = operation
        self.work = work
        self.using = using
        self.claims = claims_for(using)
        self._connection: Any = connections[using]
        self.early = early
        self.nested: bool = early.nested if early else self._connection.in_atomic_block
        self.patience = Patience(0 if self.nested else wait)

    def result(self) -> Outcome[T] | Snapshot:
        while True:
            try:
                return replay_cache.find(self.operation, self.using) or self._attempts()
            except InProgress:
                if not self.patience.lasts():
                    raise

    def _attempts(self) -> Outcome[T] | Snapshot:
        cause: BaseException | None = None
        for _ in range(1 if self.nested else conf.RETRIES + 1):
            try:
                return self._stored() or self._run()
            except Repeat as repeat:
                cause = repeat.__cause__
        if self.nested and isinstance(cause, Error):
            raise cause
        raise StoreUnavailable(_STILL_FAILING) from cause

    def _stored(self) -> Snapshot | None:
        try:
            return self.claims.prepare(self.operation)
        except Error as error:
            raise self._meaning(error, Stage()) from error

    def _run(self) -> Outcome[T] | Snapshot:
        try:
            return self._transaction(self._announced_run)
        except RolledBack as left:
            if left.error is None:
                return self._not_committed(left.outcome)
            error = left.error
        if is_connection_lost(error):
            raise StoreUnavailable(_LOST, outcome_unknown=True) from error
        if is_repeatable(error):
            raise Repeat from error
        return self._refuse(error)

    def _refuse(self, error: Exception) -> Outcome[T] | Snapshot:
        """Answer what the view raised in a transaction of its own, since the view's writes are gone with the first."""
        try:
            result = self._transaction(lambda claim: self.work.refuse(claim, error))
        except RolledBack as left:
            if left.error is None:
                return self._not_committed(left.outcome)
            self._released()
            raise
        except IdempotencyError:
            logger.error(_HIDDEN, exc_info=error)
            raise
        if isinstance(result, Snapshot):
            logger.error(_HIDDEN, exc_info=error)
        return result

    def _not_committed(self, outcome: Outcome[T] | None) -> Outcome[T] | Snapshot:
        """Release what must not be stored; store a refusal whose writes were marked for roll-back, without them."""
        assert outcome is not None
        if outcome.snapshot is not None:
            return self._transaction(lambda claim: outcome)
        self._released()
        return outcome

    def _transaction(self, call: Callable[[Claim], Outcome[T]]) -> Outcome[T] | Snapshot:
        stage = Stage()
        early, self.early = self.early, None
        try:
            with stage, early or transaction.atomic(using=self.using):
                self._connection.rollback_exc = None  # Django never resets it
                held = self.claims.claim(self.operation)
                if isinstance(held, Snapshot):
                    return held
                self._on_commit_first(lambda: self._committed(stage))
                stage.claim = held
                with KeptInOnePiece(self._connection):
                    stage.outcome = outcome = called(call, held)
                self._complete(held, outcome)
        except ClaimLost as lost:
            raise Repeat from lost
        except Error as error:
            raise self._meaning(error, stage) from error
        return outcome

    def _on_commit_first(self, hook: Callable[[], None]) -> None:
        """Put a hook before the view's: one of them that raises must not hide that the COMMIT happened."""
        self._connection.on_commit(hook)
        hooks = self._connection.run_on_commit
        # Those of an outer block keep their places, by which captureOnCommitCallbacks() tells which are new.
        hooks.insert(len(hooks) - 1 if self.nested else 0, hooks.pop())

    def _announced_run(self, claim: Claim) -> Outcome[T]:
        claimed.send_robust(
            IdempotencyRecord, operation=self.operation, attempt=claim.attempt, using=self.using
        )
        return self.work.run(claim)

    def _complete(self, claim: Claim, outcome: Outcome[T]) -> None:
        if outcome.snapshot is None:
            raise RolledBack(outcome)
        if self._connection.get_rollback():
            raise self._marked(outcome, outcome.snapshot.status)
        self.claims.complete(claim, outcome.snapshot)

    def _marked(self, outcome: Outcome[T], status: int) -> RolledBack:
        """Return what becomes of an answer whose writes are marked for roll-back: no success is stored without them."""
        swallowed: Exception | None = self._connection.rollback_exc
        if swallowed is not None and (is_repeatable(swallowed) or is_connection_lost(swallowed)):
            return RolledBack(error=swallowed)
        if self._connection.closed_in_transaction:
            return RolledBack(error=transaction.TransactionManagementError(_CLOSED))
        if status >= 400:
            return RolledBack(outcome)
        if swallowed is None:  # set_rollback() on purpose, as a dry run does
            return RolledBack(Outcome(outcome.answer, None))
        error = transaction.TransactionManagementError(_SWALLOWED)
        error.__cause__ = swallowed
        return RolledBack(error=error)

    def _committed(self, stage: Stage) -> None:
        stage.committed = True
        if stage.claim is not None and stage.outcome is not None:
            snapshot = stage.outcome.snapshot
            if snapshot is not None:
                # Begun before the claim, which set the record's expiry: the cache forgets no later than the database.
                ends = stage.begun_at + self.operation.retention.total_seconds()
                replay_cache.keep(self.operation, self.using, snapshot, ends)
            arguments = {"attempt": stage.claim.attempt, "snapshot": snapshot, "using": self.using}
            completed.send_robust(IdempotencyRecord, operation=self.operation, **arguments)

    def _released(self) -> None:
        released.send_robust(IdempotencyRecord, operation=self.operation, using=self.using)

    def _meaning(self, error: Error, stage: Stage) -> Exception:
        """Return what a database error outside the view means, by the stage it happened in."""
        if stage.committed:
            return error
        if is_repeatable(error):
            return Repeat()
        if stage.claim is None:
            return StoreUnavailable(_NOT_RUN)
        if is_connection_lost(error):
            return StoreUnavailable(_LOST, outcome_unknown=True)
        return RolledBack(error=error)
