"""Log lines as receivers of the signals: what happened and to which record, never a key, a payload or a body."""

from __future__ import annotations

import logging
from typing import Any

from django.db import DataError, IntegrityError

from django_idempotency.claims.errors import remedy
from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import IdempotencyError, StoreUnavailable
from django_idempotency.signals import rejected, released, replayed

logger = logging.getLogger("django_idempotency")


def connect() -> None:
    """Log refusals, replays and released claims; a record store that is down is an error with its cause."""
    rejected.connect(log_rejected, dispatch_uid="django_idempotency.logs")
    replayed.connect(log_replayed, dispatch_uid="django_idempotency.logs")
    released.connect(log_released, dispatch_uid="django_idempotency.logs")


def log_rejected(operation: Operation, error: IdempotencyError, using: str, **kwargs: Any) -> None:
    """Log a refusal at INFO, and at ERROR with its cause when the record store is down."""
    level = logging.ERROR if isinstance(error, StoreUnavailable) else logging.INFO
    cause = _described(error.__cause__) if level == logging.ERROR else ""
    logger.log(
        level, "Refused (%s) record %s on %r: %s%s", error.code, operation.id, using, error.detail, cause
    )


def log_replayed(operation: Operation, using: str, **kwargs: Any) -> None:
    """Log a replay at DEBUG."""
    logger.debug("Replayed record %s from %r", operation.id, using)


def log_released(operation: Operation, using: str, **kwargs: Any) -> None:
    """Log at DEBUG what was rolled back and may run again."""
    logger.debug("Released record %s on %r: rolled back and not stored", operation.id, using)


def _described(cause: BaseException | None) -> str:
    """Return kind and first line of what is behind an error; not what databases say about values, for they quote them.

    PostgreSQL quotes a row in the lines after the first, MariaDB a value in the only one.
    """
    if cause is None:
        return ""
    lines = [] if isinstance(cause, DataError | IntegrityError) else str(cause).splitlines()
    told = f" ({type(cause).__name__}: {lines[0]})" if lines else f" ({type(cause).__name__})"
    return told + remedy(cause)
