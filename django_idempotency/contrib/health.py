"""django-health-check: red when the purge is behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import Error, connections
from django.utils import timezone
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from django_idempotency.claims.registry import record_alias
from django_idempotency.stats import LATE, oldest_expired


@dataclass
class IdempotencyPurge(HealthCheck):
    """Fails when what expired first has waited for more than ``max_age``, or the records cannot be read."""

    alias: str | None = None
    max_age: timedelta = LATE

    def run(self) -> None:
        """Read one end of the expiry index."""
        using = self.alias or record_alias()
        try:
            # The check has a thread of its own, and nobody would close its connection.
            with connections[using].temporary_connection():
                oldest = oldest_expired(using, timezone.now())
        except Error as error:
            raise ServiceUnavailable("The idempotency records cannot be read.") from error
        if oldest is not None and oldest > self.max_age:
            raise ServiceUnavailable(
                f"The purge of idempotency records is {int(oldest.total_seconds())} s behind."
            )
