"""A transaction that a door opens before the claim, for what belongs to the view's transaction but runs before it."""

from __future__ import annotations

from types import TracebackType

from django.db import connections, transaction


class EarlyTransaction:
    """An ``atomic()`` that is open from the start: the first ``with`` statement on it is its end.

    Whoever opened it calls ``close()`` at last, which does nothing once it has ended. ``nested`` tells whether there
    was an outer one, ``is_undone`` whether what was written in it is gone.
    """

    def __init__(self, using: str) -> None:
        self.nested: bool = connections[using].in_atomic_block
        self.is_open = True
        self.is_undone = False
        self._atomic = transaction.atomic(using=using)
        self._atomic.__enter__()

    def __enter__(self) -> None:
        pass

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
