"""The list's actions: asked for, confirmed with a count, done in one transaction, and kept in the admin's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext, ngettext

from django_idempotency.admin.export import exported
from django_idempotency.admin.steps import DELETE, EXPIRE, EXPORT, EXTEND, PURGE, Step
from django_idempotency.admin.texts import line
from django_idempotency.claims.registry import record_alias
from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[IdempotencyRecord]
else:
    _Base = object

ACTION_LIMIT = 1000
NAMED = 10


class Actions(_Base):
    """Five actions with a permission each; none waits for a record that a running request holds."""

    def has_expire_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "expire")

    def has_extend_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "extend")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "purge")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "delete")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "export")

    def _allowed(self, request: HttpRequest, action: str) -> bool:
        return bool(request.user.has_perm(f"{self.opts.app_label}.{action}_{self.opts.model_name}"))

    @admin.action(description=EXPIRE.title, permissions=["expire"])
    def expire_now(
        self, request: HttpRequest, queryset: IdempotencyRecordQuerySet
    ) -> HttpResponseBase | None:
        return self._take(EXPIRE, request, queryset)

    @admin.action(description=EXTEND.title, permissions=["extend"])
    def extend_expiry(
        self, request: HttpRequest, queryset: IdempotencyRecordQuerySet
    ) -> HttpResponseBase | None:
        return self._take(EXTEND, request, queryset)

    @admin.action(description=PURGE.title, permissions=["purge"])
    def purge_expired(
        self, request: HttpRequest, queryset: IdempotencyRecordQuerySet
    ) -> HttpResponseBase | None:
        return self._take(PURGE, request, queryset)

    @admin.action(description=DELETE.title, permissions=["erase"])
    def delete_records(
        self, request: HttpRequest, queryset: IdempotencyRecordQuerySet
    ) -> HttpResponseBase | None:
        return self._take(DELETE, request, queryset)

    @admin.action(description=EXPORT.title, permissions=["export"])
    def export_metadata(
        self, request: HttpRequest, queryset: IdempotencyRecordQuerySet
    ) -> HttpResponseBase | None:
        return self._take(EXPORT, request, queryset)

    def _take(
        self, step: Step, request: HttpRequest, queryset: IdempotencyRecordQuerySet
    ) -> HttpResponseBase | None:
        """Ask first; do it when the question was answered, and with an option that it offered."""
        chosen = list(step.choose(queryset)[:ACTION_LIMIT])
        if not chosen:
            text = gettext("None of the chosen records is one for “%s”: nothing was changed.")
            self.message_user(request, text % step.title, messages.WARNING)
            return None
        option = request.POST.get("option", "")
        if "post" in request.POST and (not step.options or option in dict(step.options)):
            return self._do(step, request, chosen, option)
        return self._ask(step, request, chosen)

    def _ask(self, step: Step, request: HttpRequest, chosen: list[IdempotencyRecord]) -> HttpResponseBase:
        context = {
            **self.admin_site.each_context(request),
            "title": step.title,
            "original": step.title,  # where Django's own page names its record: the last of the breadcrumbs
            "has_view_permission": True,
            "opts": self.opts,
            "step": step,
            "question": step.question % len(chosen),
            "named": [(line(record.key), line(str(record))) for record in chosen[:NAMED]],
            "more": len(chosen) - NAMED,
            "limit": ACTION_LIMIT if len(chosen) == ACTION_LIMIT else None,
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox": ACTION_CHECKBOX_NAME,
            "across": request.POST.get("select_across", "0"),
            "media": self.media,
            "back": request.get_full_path(),
        }
        return TemplateResponse(request, "admin/django_idempotency/idempotencyrecord/confirm.html", context)

    def _do(
        self, step: Step, request: HttpRequest, chosen: list[IdempotencyRecord], option: str
    ) -> HttpResponseBase | None:
        using = record_alias()
        with transaction.atomic(using=using):
            records = IdempotencyRecord.objects.using(using)
            ids = step.write(records, [record.id for record in chosen], option)
            done = [record for record in chosen if record.id in ids]
            # Inside the transaction: nothing goes unrecorded.
            said = step.logged % option if step.options else step.logged
            LogEntry.objects.log_actions(request.user.pk, done, step.flag, said)  # type: ignore[arg-type]
        if step is EXPORT:
            return exported(done, option)
        self._report(step, request, len(done), len(chosen))
        return None

    def _report(self, step: Step, request: HttpRequest, done: int, chosen: int) -> None:
        self.message_user(request, step.done % done, messages.SUCCESS)
        if held := chosen - done:
            text = ngettext(
                "%d record was left alone: a running request holds it, or it has changed meanwhile.",
                "%d records were left alone: running requests hold them, or they have changed meanwhile.",
                held,
            )
            self.message_user(request, text % held, messages.WARNING)
        if chosen == ACTION_LIMIT:
            text = gettext("At most %d records are changed at a time: run the action again for the rest.")
            self.message_user(request, text % ACTION_LIMIT, messages.WARNING)


def action_names() -> tuple[Any, ...]:
    """Return the names of the actions, in the order of the menu."""
    return tuple(step.name for step in (EXTEND, EXPIRE, PURGE, DELETE, EXPORT))
