"""The record of an operation."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.checks import CheckMessage
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.core import decisions
from django_idempotency.core.operations import Snapshot, StoredRecord
from django_idempotency.encryption import opened

if TYPE_CHECKING:
    from typing_extensions import Self


class IdempotencyRecordQuerySet(models.QuerySet["IdempotencyRecord"]):
    """A vocabulary to read with; rows are written by ``django_idempotency.claims`` alone."""

    def in_progress(self) -> Self:
        return self.filter(state=IdempotencyRecord.State.IN_PROGRESS)

    def completed(self) -> Self:
        return self.filter(state=IdempotencyRecord.State.COMPLETED)

    def unfinished(self) -> Self:
        """Return what is in progress or has an unknown outcome: few, and in an index of their own."""
        return self.filter(completed_at__isnull=True)

    def expired(self, now: datetime | None = None) -> Self:
        return self.filter(expires_at__lte=now or timezone.now())

    def live(self, now: datetime | None = None) -> Self:
        return self.filter(expires_at__gt=now or timezone.now())

    def expiring(self, start: datetime, end: datetime) -> Self:
        """Return what expires from ``start`` on and before ``end``."""
        return self.filter(expires_at__gte=start, expires_at__lt=end)


class Recorded:
    """What is known of a record, by whichever query read it: what decides, and what it answers."""

    scope: Any
    key: Any
    fingerprint: Any
    state: Any
    expires_at: Any
    attempt: Any
    response_status: Any
    response_headers: Any
    response_body: Any

    def as_stored(self) -> StoredRecord:
        """Return what ``decide()`` needs of this record."""
        return StoredRecord(self.scope, self.key, self.fingerprint, self.state, self.expires_at)

    def as_snapshot(self) -> Snapshot:
        """Return the stored answer of a completed record; the body is None when it was not kept.

        Raises StoreUnavailable when it is encrypted and no key decrypts it.
        """
        headers = tuple((name, value) for name, value in self.response_headers)
        return Snapshot(self.response_status or 200, headers, opened(self.response_body))


class IdempotencyRecord(Recorded, models.Model):
    """One keyed operation: what was asked, what was answered, and until when that binds.

    The primary key is derived from (scope, key), so one unique index serves uniqueness and look-up, exactly and
    on every database (``core.operations.operation_id``). Payload and body are bytes, paths are percent-encoded.
    """

    class State(models.TextChoices):
        IN_PROGRESS = decisions.IN_PROGRESS, _("in progress")
        COMPLETED = decisions.COMPLETED, _("completed")
        UNKNOWN = decisions.UNKNOWN, _("outcome unknown")

    id = models.UUIDField(_("id"), primary_key=True, editable=False)
    scope = models.TextField(_("scope"), help_text=_("Who sent the key, and to which route."))
    key = models.CharField(_("key"), max_length=255)
    method = models.CharField(_("method"), max_length=32, blank=True)
    path = models.TextField(_("path"), blank=True)
    fingerprint = models.CharField(_("fingerprint"), max_length=80)
    request_payload = models.BinaryField(_("request payload"), null=True)
    state = models.CharField(_("state"), max_length=16, choices=State.choices, default=State.IN_PROGRESS)
    response_status = models.PositiveSmallIntegerField(_("response status"), null=True)
    response_headers = models.JSONField(_("response headers"), default=list)
    response_body = models.BinaryField(_("response body"), null=True)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    completed_at = models.DateTimeField(_("completed"), null=True)
    expires_at = models.DateTimeField(_("expires"))
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    # Counted late and never under a replay's feet (counting.py). A process of an older release may still insert.
    replays = models.PositiveIntegerField(_("replays"), default=0, db_default=0)
    last_replayed_at = models.DateTimeField(_("last replay"), null=True)

    objects = IdempotencyRecordQuerySet.as_manager()

    class Meta:
        verbose_name = _("idempotency record")
        verbose_name_plural = _("idempotency records")
        # Meta.indexes, because db_index on a text column makes PostgreSQL keep a second index for LIKE.
        indexes = (
            models.Index(fields=["key"], name="idempotency_key"),
            models.Index(fields=["expires_at"], name="idempotency_expires_at"),
            # Partial where the database can; MariaDB keeps it whole, hence the first field.
            models.Index(
                fields=["completed_at", "expires_at"],
                condition=models.Q(completed_at__isnull=True),
                name="idempotency_unfinished",
            ),
        )
        default_permissions = ("view",)
        permissions = (
            ("view_bodies_idempotencyrecord", "Can view payloads and bodies of idempotency records"),
            ("expire_idempotencyrecord", "Can expire idempotency records"),
            ("extend_idempotencyrecord", "Can extend the expiry of idempotency records"),
            ("purge_idempotencyrecord", "Can purge expired idempotency records"),
            ("delete_idempotencyrecord", "Can delete idempotency records: operations may run again"),
            ("export_idempotencyrecord", "Can export metadata of idempotency records"),
        )

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.state})".strip()

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Run Django's checks; MariaDB may keep the partial index whole."""
        return [message for message in super().check(**kwargs) if message.id != "models.W037"]


class IdempotencyHour(models.Model):
    """How many replays and conflicts (409 and 422) one hour saw: a row an hour, kept for a week by the purge."""

    hour = models.DateTimeField(_("hour"), primary_key=True)
    replays = models.PositiveBigIntegerField(_("replays"), default=0)
    conflicts = models.PositiveBigIntegerField(_("conflicts"), default=0)

    class Meta:
        verbose_name = _("hour of replays")
        verbose_name_plural = _("hours of replays")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:%M}: {self.replays} / {self.conflicts}"
