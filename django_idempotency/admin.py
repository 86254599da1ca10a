"""Records in the admin: read-only, and without a query that scans the table."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from django_idempotency.claims.retention import expire_now, purge_chosen
from django_idempotency.models import IdempotencyRecord

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise

    _Admin = admin.ModelAdmin[IdempotencyRecord]
else:
    _Admin = admin.ModelAdmin

COUNT_LIMIT = 10_000
BODY_SHOWN = 4096


class CappedPaginator(Paginator):
    """Counts at most COUNT_LIMIT + 1 rows: a COUNT(*) over millions of records takes longer than the page."""

    @cached_property
    def count(self) -> int:
        return int(self.object_list.order_by()[: COUNT_LIMIT + 1].count())


class ExpiryFilter(admin.SimpleListFilter):
    """Live, expiring within the hour, or expired: three ranges of the expiry index."""

    title = _("expiry")
    parameter_name = "expiry"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, StrPromise]]:
        return [("live", _("live")), ("soon", _("within 1 hour")), ("expired", _("expired"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyRecord]
    ) -> QuerySet[IdempotencyRecord]:
        now = timezone.now()
        ranges: dict[str | None, dict[str, Any]] = {
            "live": {"expires_at__gt": now},
            "soon": {"expires_at__gt": now, "expires_at__lte": now + timedelta(hours=1)},
            "expired": {"expires_at__lte": now},
        }
        return queryset.filter(**ranges.get(self.value(), {}))


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(_Admin):
    """Shows what is stored; the only changes are to expire a record and to delete what has expired."""

    list_display = (
        "short_key",
        "state",
        "method",
        "path",
        "response_status",
        "scope",
        "created_at",
        "expires_at",
    )
    list_filter = (ExpiryFilter,)
    search_fields = ("key",)
    search_help_text = _("The exact key.")
    sortable_by = ("expires_at",)
    ordering = ("-expires_at",)
    paginator = CappedPaginator
    show_full_result_count = False
    actions = ("expire_now", "purge_expired")
    fieldsets = (
        (_("Operation"), {"fields": ("key", "scope", "state", "attempt", "id")}),
        (_("Request"), {"fields": ("method", "path", "fingerprint", "shown_payload")}),
        (_("Answer"), {"fields": ("response_status", "shown_headers", "shown_body")}),
        (_("Times"), {"fields": ("created_at", "completed_at", "expires_at")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyRecord]:
        return super().get_queryset(request).defer("request_payload", "response_body", "response_headers")

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
        return request.user.has_perm(f"{self.opts.app_label}.{action}_{self.opts.model_name}")  # type: ignore[union-attr]

    @admin.display(description=_("key"))
    def short_key(self, record: IdempotencyRecord) -> str:
        return record.key if len(record.key) <= 40 else f"{record.key[:39]}…"

    @admin.display(description=_("payload"))
    def shown_payload(self, record: IdempotencyRecord) -> str:
        return _shown(record.request_payload)

    @admin.display(description=_("headers"))
    def shown_headers(self, record: IdempotencyRecord) -> str:
        return "\n".join(f"{name}: {value}" for name, value in record.response_headers) or "–"

    @admin.display(description=_("body"))
    def shown_body(self, record: IdempotencyRecord) -> str:
        return _shown(record.response_body)

    @admin.action(
        description=_("Expire now: their keys count as unused from then on"), permissions=["expire"]
    )
    def expire_now(self, request: HttpRequest, queryset: QuerySet[IdempotencyRecord]) -> None:
        records = {record.id: record for record in queryset}
        expired = expire_now(IdempotencyRecord.objects.using(queryset.db), records)
        for record_id in expired:
            self.log_change(request, records[record_id], "Expired now.")
        self._report(
            request, ngettext("%d record expired.", "%d records expired.", len(expired)) % len(expired)
        )
        if held := len(records) - len(expired):
            text = ngettext(
                "%d record is in use by a running request.",
                "%d records are in use by running requests.",
                held,
            )
            self._report(request, text % held, messages.WARNING)

    @admin.action(description=_("Purge those that have expired"), permissions=["purge"])
    def purge_expired(self, request: HttpRequest, queryset: QuerySet[IdempotencyRecord]) -> None:
        chosen = list(queryset)
        purged = purge_chosen(IdempotencyRecord.objects.using(queryset.db), [record.id for record in chosen])
        gone = [record for record in chosen if record.id in purged]
        if gone:
            self.log_deletions(request, gone)
        self._report(request, ngettext("%d record purged.", "%d records purged.", len(gone)) % len(gone))
        if kept := len(chosen) - len(gone):
            text = ngettext(
                "%d record has not expired and was kept.", "%d records have not expired and were kept.", kept
            )
            self._report(request, text % kept, messages.WARNING)

    def _report(self, request: HttpRequest, text: str, level: int = messages.SUCCESS) -> None:
        self.message_user(request, text, level)


def _shown(content: bytes | memoryview | None) -> str:
    """Return bytes as text, their beginning if they are long, or what they are if they are not text."""
    if content is None:
        return "–"
    content = bytes(content)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return str(_("%d bytes, not text")) % len(content)
    return text if len(text) <= BODY_SHOWN else f"{text[:BODY_SHOWN]}… ({len(content)} bytes)"
