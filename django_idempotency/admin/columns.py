"""The columns of the list."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.texts import at, copyable, duration, line, relative
from django_idempotency.models import IdempotencyRecord


class Columns:
    """What the list shows of a record; none of it asks the database."""

    @admin.display(description=_("key, scope"))
    def shown_key(self, record: IdempotencyRecord) -> SafeString:
        return format_html("{}<br>{}", copyable(record.key, "idem-key"), copyable(record.scope, "idem-scope"))

    @admin.display(description=_("state, answer"))
    def answered(self, record: IdempotencyRecord) -> SafeString:
        took = duration(record.completed_at - record.created_at) if record.completed_at else ""
        return format_html(
            '{}<br>{} <span class="idem-more">{}</span>', self.badge(record), self.status(record), took
        )

    @admin.display(description=_("state"))
    def badge(self, record: IdempotencyRecord) -> SafeString:
        kind, words = standing(record)
        return format_html('<span class="idem-badge idem-{}">{}</span>', kind, words)

    @admin.display(description=_("status"))
    def status(self, record: IdempotencyRecord) -> SafeString | str:
        if record.response_status is None:
            return "–"
        digit = record.response_status // 100
        return format_html('<span class="idem-status idem-{}xx">{}</span>', digit, record.response_status)

    @admin.display(description=_("request"))
    def operation(self, record: IdempotencyRecord) -> SafeString:
        path = line(record.path)
        return format_html(
            '<span class="idem-method">{}</span> <span class="idem-path" title="{}">{}</span>',
            record.method or "–", path, path,
        )  # fmt: skip

    @admin.display(description=_("replays"))
    def replayed(self, record: IdempotencyRecord) -> SafeString | str:
        if record.last_replayed_at is None:
            return "–"
        return at(record.last_replayed_at, f"{record.replays:,}")

    @admin.display(description=_("expiry, creation"), ordering="expires_at")
    def expiry(self, record: IdempotencyRecord) -> SafeString:
        now = timezone.now()
        expiry, creation = (
            at(moment, relative(moment, now)) for moment in (record.expires_at, record.created_at)
        )
        return format_html('{}<br><span class="idem-more">{}</span>', expiry, creation)


def standing(record: Any) -> tuple[str, str]:
    """Return how it stands with a record: a word for the style sheet, and the words for a person."""
    if record.state == IdempotencyRecord.State.COMPLETED:
        return "completed", gettext("completed")
    if record.state == IdempotencyRecord.State.UNKNOWN:
        return "unknown", gettext("outcome unknown")
    known = {True: ("interrupted", gettext("interrupted")), False: ("running", gettext("in progress"))}
    unsure = ("unsure", gettext("in progress or interrupted"))
    return known.get(record.interrupted, unsure)
