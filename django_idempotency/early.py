"""A transaction that a door opens before the claim, for what belongs to the view's transaction but runs before it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any

from django.db import connections, transaction

_EARLY = "_idempotency_early"
_MARKED = (
    "setup(), dispatch() or initial() swallowed a database error that had undone its writes, so the handler did not "
    "run: let the error through, or put what may fail into atomic()."
)


class EarlyTransaction:
    """An ``atomic()`` that is open from the start: the first ``with`` statement on it is its end.

    Whoever opened it calls ``close()`` or ``undo()`` at last, which do nothing once somebody has entered or ended it.
    ``nested`` tells whether there was an outer one, ``is_undone`` whether what was written in it is gone.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.nested: bool = connections[using].in_atomic_block
        self._open()

    def _open(self) -> None:
        self.is_open, self.is_undone = True, False
        if not self.nested:
            connection: Any = connections[self.using]
            connection.rollback_exc = None  # Django never resets it
        self._atomic = transaction.atomic(using=self.using)
        self._atomic.__enter__()

    def __enter__(self) -> None:
        self.is_open = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open, self.is_undone = False, True
        self._atomic.__exit__(kind, error, trace)  # raises when the COMMIT fails
        self.is_undone = kind is not None

    def close(self) -> None:
        """Commit, unless it has ended."""
        if self.is_open:
            self.__exit__(None, None, None)

    def end_for_claim(self) -> None:
        """Commit before a claim; an error that somebody swallowed must not lose in silence what was written here."""
        connection: Any = connections[self.using]
        if self.is_open and connection.needs_rollback and connection.rollback_exc is not None:
            raise transaction.TransactionManagementError(_MARKED) from connection.rollback_exc
        self.close()

    def renew(self) -> None:
        """Commit, and open another one."""
        self.close()
        self._open()

    def undo(self) -> None:
        """Roll back for the error in hand, unless it has ended."""
        if self.is_open:
            self.__exit__(*sys.exc_info())


def early_of(request: Any) -> EarlyTransaction | None:
    """Return the transaction that is open around the view of ``request`` for ATOMIC_REQUESTS, or None."""
    early: EarlyTransaction | None = getattr(request, _EARLY, None)
    return early if early is not None and early.is_open else None


def in_early_transaction(view: Callable[..., Any], using: Callable[[], str | None]) -> Callable[..., Any]:
    """Return ``view`` in the transaction that Django would open for it; a keyed request ends it before its claim.

    ``using`` tells the alias, or None where there is to be no transaction.
    """

    @wraps(view)
    def callback(request: Any, *args: Any, **kwargs: Any) -> Any:
        alias = using()
        early = None if alias is None else EarlyTransaction(alias)
        outer = getattr(request, _EARLY, None)  # that of a view which calls this one
        setattr(request, _EARLY, early)
        try:
            response = view(request, *args, **kwargs)
        except BaseException:
            if early is not None:
                early.undo()
            raise
        finally:
            setattr(request, _EARLY, outer)
        if early is not None:
            early.close()
        return response

    return callback
