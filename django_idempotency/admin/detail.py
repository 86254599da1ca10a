"""One record on its page: what was asked, what was answered, and what a retry would get now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin import bodies
from django_idempotency.admin.columns import Columns, standing
from django_idempotency.admin.texts import copyable, duration, exact, line, pre, relative
from django_idempotency.core.decisions import Decision, decide
from django_idempotency.core.operations import Operation
from django_idempotency.encryption import opened
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.models import IdempotencyRecord

UNREADABLE = gettext_noop("Encrypted, and no key of IDEMPOTENCY['ENCRYPTION_KEYS'] decrypts it.")

FIELDSETS: Any = (
    (None, {"fields": ("retry", "badge", "timeline", "attempts"), "classes": ("idem-summary",)}),
    (_("Request"), {"fields": ("whole_key", "whole_scope", "operation", "shown_payload", "fingerprint")}),
    (_("Answer"), {"fields": ("status", "shown_headers", "shown_body")}),
    (_("Identity"), {"fields": ("shown_id",)}),
)


class Detail(Columns):
    """What the page of one record shows; ``look_at()`` is told first who looks at which."""

    admin_site: Any
    opts: Any
    reading: Callable[[HttpRequest], bool]

    @admin.display(description=_("a retry now"))
    def retry(self, record: IdempotencyRecord) -> SafeString:
        question, words = gettext("What would a retry get now?"), what_a_retry_gets(record, timezone.now())
        return format_html('<div class="idem-retry"><b>{}</b> {}</div>', question, words)

    @admin.display(description=_("timeline"))
    def timeline(self, record: IdempotencyRecord) -> SafeString:
        now = timezone.now()
        moments = [(gettext("created"), record.created_at, "")]
        if record.completed_at:
            took = duration(record.completed_at - record.created_at)
            moments.append((gettext("completed"), record.completed_at, gettext("after %s") % took))
        if record.last_replayed_at:
            text = ngettext("%d replay so far", "%d replays so far", record.replays)
            moments.append((gettext("last replay"), record.last_replayed_at, text % record.replays))
        ending = gettext("expires") if record.expires_at > now else gettext("expired")
        moments.append((ending, record.expires_at, relative(record.expires_at, now)))
        items = format_html_join(
            "",
            '<li><b>{}</b> <time datetime="{}">{}</time> <span>{}</span></li>',
            ((name, moment.isoformat(), exact(moment), note) for name, moment, note in moments),
        )
        return format_html('<ol class="idem-timeline">{}</ol>', items)

    @admin.display(description=_("attempts"))
    def attempts(self, record: IdempotencyRecord) -> str:
        earlier = record.attempt - 1
        if earlier < 1:
            return str(record.attempt)
        text = ngettext(
            "%(attempt)d: an earlier run was rolled back, was interrupted, or has expired.",
            "%(attempt)d: %(earlier)d earlier runs were rolled back, were interrupted, or have expired.",
            earlier,
        )
        return text % {"attempt": record.attempt, "earlier": earlier}

    @admin.display(description=_("key"))
    def whole_key(self, record: IdempotencyRecord) -> SafeString:
        return copyable(record.key, "idem-whole")

    @admin.display(description=_("scope"))
    def whole_scope(self, record: IdempotencyRecord) -> SafeString:
        user = self._user_behind(record)
        shown = copyable(record.scope, "idem-whole")
        return format_html('{} <a href="{}">{}</a>', shown, *user) if user else shown

    @admin.display(description=_("id"))
    def shown_id(self, record: IdempotencyRecord) -> SafeString:
        return copyable(str(record.id), "idem-whole")

    @admin.display(description=_("payload"))
    def shown_payload(self, record: IdempotencyRecord) -> SafeString | str:
        if record.request_payload is None:
            return gettext(
                "Not kept: it was too large, could not be read for redaction, or STORE_REQUEST_PAYLOAD is off."
            )
        return self._shown(record, "payload", ())

    @admin.display(description=_("headers"))
    def shown_headers(self, record: IdempotencyRecord) -> SafeString | str:
        text = "\n".join(line(f"{name}: {value}") for name, value in record.response_headers)
        return pre(text) if text else gettext("None.")

    @admin.display(description=_("body"))
    def shown_body(self, record: IdempotencyRecord) -> SafeString | str:
        if record.state != IdempotencyRecord.State.COMPLETED:
            return gettext("There is no answer yet.")
        if record.response_body is None:
            return gettext(
                "Not kept: it was streamed, larger than MAX_BODY_BYTES, or STORE_BODY is off. "
                "A retry gets status and headers."
            )
        return self._shown(record, "body", record.response_headers)

    def _shown(self, record: Any, part: str, headers: Any) -> SafeString | str:
        if not getattr(record, "is_readable", False):
            return gettext("Stored, but you lack the permission to view payloads and bodies.")
        url = reverse(f"{self.admin_site.name}:{stored_url_name(self.opts)}", args=[record.pk, part])
        try:
            return bodies.shown(stored(record, part) or b"", headers, url)
        except StoreUnavailable:
            return gettext(UNREADABLE)

    def _user_behind(self, record: Any) -> tuple[str, str] | None:
        """Return the address and the name of the user that the scope begins with, for somebody who may see users."""
        model, viewer = get_user_model(), getattr(record, "viewer", None)
        kind, _, pk = unquote(record.scope.partition(" ")[0]).partition(":")
        users = self.admin_site._registry.get(model)
        if kind != "user" or users is None or viewer is None or not users.has_view_permission(viewer):
            return None
        try:
            user = model._default_manager.filter(pk=pk).first()
            url = reverse(
                f"{self.admin_site.name}:{model._meta.app_label}_{model._meta.model_name}_change", args=[pk]
            )
        except (ValueError, ValidationError, OverflowError, NoReverseMatch):
            return None
        return (url, line(str(user))) if user else None


def stored(record: IdempotencyRecord, part: str) -> bytes | None:
    """Return the bytes of the payload or of the body, or None when they were not kept.

    Raises StoreUnavailable when they are encrypted and no key decrypts them.
    """
    return opened(record.request_payload if part == "payload" else record.response_body)


def stored_url_name(opts: Any) -> str:
    """Return the name of the address that serves stored bytes."""
    return f"{opts.app_label}_{opts.model_name}_stored"


def what_a_retry_gets(record: Any, now: datetime) -> str:
    """Return in one sentence what the same request with the same key would get now."""
    same = Operation(record.scope, record.key, record.fingerprint, timedelta(0))
    decision = decide(record.as_stored(), same, now)
    if decision is Decision.REPLAY:
        return _replay(record)
    if decision is Decision.UNKNOWN:
        return gettext("409: the outcome is unknown, and an operator has to settle it.")
    return {
        "completed": gettext("It would run again: the record has expired, so the key counts as unused."),
        "running": gettext("409: the first request is running, and holds the lock."),
        "interrupted": gettext("It would run: the first request was interrupted, and nobody holds the lock."),
        "unsure": gettext(
            "It would run, unless the first request is still running: this database does not tell."
        ),
    }.get(standing(record)[0], gettext("It would run again."))


def _replay(record: IdempotencyRecord) -> str:
    if record.response_body is None:
        return (
            gettext("Status %d and the headers, without the body, which was not kept.")
            % record.response_status
        )
    return (
        gettext("The stored answer, %d; another request with this key would get 422.")
        % record.response_status
    )
