"""Records in the admin: read-only, and without a query that scans the table."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import localize
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.claims.registry import record_alias
from django_idempotency.claims.retention import expire_now, purge_chosen
from django_idempotency.display import pre, shown
from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

    _Admin = admin.ModelAdmin[IdempotencyRecord]
    _Paginator = Paginator[IdempotencyRecord]
else:
    _Admin = admin.ModelAdmin
    _Paginator = Paginator

COUNT_LIMIT = 10_000
ACTION_LIMIT = 1000


def capped_count(records: QuerySet[IdempotencyRecord]) -> int:
    """Count at most COUNT_LIMIT + 1 rows, off the expiry index: a COUNT(*) over millions takes longer than the page."""
    return records.order_by("expires_at").values("expires_at")[: COUNT_LIMIT + 1].count()


class CappedPaginator(_Paginator):
    """Pages through the first COUNT_LIMIT + 1 records; a filter or a search leads to the others."""

    object_list: QuerySet[IdempotencyRecord]

    @cached_property
    def count(self) -> int:  # of records, or of the log entries on a record's history page
        is_list = self.object_list.model is IdempotencyRecord
        return capped_count(self.object_list) if is_list else self.object_list.count()


class ExpiryFilter(admin.SimpleListFilter):
    """Live, expiring within the hour, or expired: three ranges of the expiry index, each with its number of records."""

    title = _("expiry")
    parameter_name = "expiry"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        records, now = model_admin.get_queryset(request), timezone.now()
        labels = {"live": _("live"), "soon": _("within 1 hour"), "expired": _("expired")}
        counts = {value: _number(capped_count(_in_range(records, value, now))) for value in labels}
        return [(value, f"{label} ({counts[value]})") for value, label in labels.items()]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyRecord]
    ) -> QuerySet[IdempotencyRecord]:
        return _in_range(queryset, self.value(), timezone.now())


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(_Admin):
    """Shows what is stored; the only changes are to expire a record and to delete what has expired.

    It reads the records where they are written, whatever routers say about reads: a replica may lag.
    """

    list_display = ("short_key", "state", "status", "expiry", "operation", "scope", "created_at")
    list_filter = (ExpiryFilter,)
    search_fields = ("key",)
    search_help_text = _("The exact key.")
    sortable_by = ("expiry",)
    ordering = ("-expires_at",)
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("expire_now", "purge_expired")
    fieldsets = (
        (_("Operation"), {"fields": ("shown_key", "scope", "state", "attempt", "id")}),
        (_("Timeline"), {"fields": ("created_at", ("completed_at", "took"), ("expires_at", "expiry"))}),
        (_("Request"), {"fields": ("operation", "shown_payload", "fingerprint")}),
        (_("Answer"), {"fields": ("status", "shown_headers", "shown_body")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyRecord]:
        records = super().get_queryset(request).using(record_alias())
        return records.defer("request_payload", "response_body", "response_headers")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyRecord], search_term: str
    ) -> tuple[QuerySet[IdempotencyRecord], bool]:
        """Find the exact key: Django's own search would use a case-insensitive match that no index serves."""
        return (queryset.filter(key=search_term.strip()) if search_term.strip() else queryset), False

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: IdempotencyRecord | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: IdempotencyRecord | None = None) -> bool:
        return False

    def has_expire_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "expire")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "purge")

    def _allowed(self, request: HttpRequest, action: str) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.{action}_{self.opts.model_name}")

    @admin.display(description=_("key"))
    def short_key(self, record: IdempotencyRecord) -> SafeString:
        key = record.key if len(record.key) <= 40 else f"{record.key[:39]}…"
        return format_html("<samp>{}</samp>", key)

    @admin.display(description=_("status"))
    def status(self, record: IdempotencyRecord) -> int | None:
        return record.response_status

    @admin.display(description=_("request"))
    def operation(self, record: IdempotencyRecord) -> str:
        return f"{record.method} {record.path}".strip() or "–"

    @admin.display(description=_("expiry"), ordering="expires_at")
    def expiry(self, record: IdempotencyRecord) -> str:
        now = timezone.now()
        if record.expires_at > now:
            return gettext("in %s") % timeuntil(record.expires_at, now, depth=1)
        return gettext("%s ago") % timesince(record.expires_at, now, depth=1)

    @admin.display(description=_("key"))
    def shown_key(self, record: IdempotencyRecord) -> SafeString:
        return pre(record.key)

    @admin.display(description=_("after"))
    def took(self, record: IdempotencyRecord) -> str:
        if record.completed_at is None:
            return "–"
        return f"{localize(round((record.completed_at - record.created_at) / timedelta(milliseconds=1)))} ms"

    @admin.display(description=_("payload"))
    def shown_payload(self, record: IdempotencyRecord) -> SafeString | str:
        return shown(record.request_payload)

    @admin.display(description=_("headers"))
    def shown_headers(self, record: IdempotencyRecord) -> SafeString:
        return pre("\n".join(f"{name}: {value}" for name, value in record.response_headers))

    @admin.display(description=_("body"))
    def shown_body(self, record: IdempotencyRecord) -> SafeString | str:
        return shown(record.response_body)

    @admin.action(description=_("Expire now: their keys count as unused"), permissions=["expire"])
    def expire_now(self, request: HttpRequest, queryset: IdempotencyRecordQuerySet) -> None:
        using = record_alias()
        chosen = list(queryset.live().order_by("-expires_at")[:ACTION_LIMIT])
        with transaction.atomic(using=using):
            ids = expire_now(IdempotencyRecord.objects.using(using), [record.id for record in chosen])
            expired = [record for record in chosen if record.id in ids]
            self._log(request, expired, CHANGE, "Expired now.")
        done = ngettext("%d record expired.", "%d records expired.", len(expired))
        self._report(request, done % len(expired), len(chosen), len(chosen) - len(expired))

    @admin.action(description=_("Purge those that have expired"), permissions=["purge"])
    def purge_expired(self, request: HttpRequest, queryset: IdempotencyRecordQuerySet) -> None:
        using = record_alias()
        chosen = list(queryset.expired().order_by("expires_at")[:ACTION_LIMIT])
        with transaction.atomic(using=using):
            ids = purge_chosen(IdempotencyRecord.objects.using(using), [record.id for record in chosen])
            gone = [record for record in chosen if record.id in ids]
            self._log(request, gone, DELETION, "Purged.")
        done = ngettext("%d record purged.", "%d records purged.", len(gone))
        self._report(request, done % len(gone), len(chosen), len(chosen) - len(gone))
        if queryset.live().exists():
            self.message_user(request, _("Records that have not expired were kept."), messages.WARNING)

    def _log(self, request: HttpRequest, records: list[IdempotencyRecord], flag: int, text: str) -> None:
        """Write the admin's history; inside the action's transaction, so that none of it goes unrecorded."""
        LogEntry.objects.log_actions(request.user.pk, records, flag, text)  # type: ignore[arg-type]

    def _report(self, request: HttpRequest, done: str, chosen: int, held: int) -> None:
        self.message_user(request, done, messages.SUCCESS)
        if held:
            text = ngettext(
                "%d record is in use by a running request.",
                "%d records are in use by running requests.",
                held,
            )
            self.message_user(request, text % held, messages.WARNING)
        if chosen == ACTION_LIMIT:
            text = gettext("At most %d records are changed at a time: run the action again for the rest.")
            self.message_user(request, text % ACTION_LIMIT, messages.WARNING)


def _in_range(
    records: QuerySet[IdempotencyRecord], value: str | None, now: datetime
) -> QuerySet[IdempotencyRecord]:
    ranges: dict[str | None, dict[str, datetime]] = {
        "live": {"expires_at__gt": now},
        "soon": {"expires_at__gt": now, "expires_at__lte": now + timedelta(hours=1)},
        "expired": {"expires_at__lte": now},
    }
    return records.filter(**ranges.get(value, {}))


def _number(count: int) -> str:
    return str(localize(count)) if count <= COUNT_LIMIT else f"{localize(COUNT_LIMIT)}+"
