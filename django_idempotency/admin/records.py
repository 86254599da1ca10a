"""Records in the admin: read-only but for five actions, and without a query that scans the table."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.forms import Media
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin import bodies
from django_idempotency.admin.actions import Actions, action_names
from django_idempotency.admin.changelist import (
    ParameterRefused,
    RecordChangeList,
    check_parameter,
    search,
    tell_owners,
)
from django_idempotency.admin.detail import FIELDSETS, UNREADABLE, Detail, stored, stored_url_name
from django_idempotency.admin.filters import FILTERS
from django_idempotency.admin.panel import panel
from django_idempotency.admin.ranges import CappedPaginator
from django_idempotency.claims.registry import record_alias
from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet


class IdempotencyRecordAdminMixin(Detail, Actions):
    """Everything that the admin knows of records, for a ModelAdmin of your own: put it in front of the other base.

    It reads the records where they are written, whatever routers say about reads: a replica may lag.
    """

    list_display = ("shown_key", "answered", "expiry", "operation", "replayed")
    list_filter = FILTERS
    search_fields = ("key",)
    search_help_text = _("The exact key, the id, or scope and key with a space between.")
    sortable_by = ("expiry",)
    ordering = ("-expires_at",)
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = action_names()
    fieldsets = FIELDSETS

    @property
    def media(self) -> Media:
        return super().media + Media(css={"all": ["django_idempotency/admin.css"]})

    def get_queryset(self, request: HttpRequest) -> IdempotencyRecordQuerySet:
        records: Any = super().get_queryset(request)
        return records.using(record_alias())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordChangeList]:
        return RecordChangeList

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        return (search(queryset, term) if term else queryset), False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow what a filter of the list asks for, and refuse a look-up that somebody wrote into the address."""
        filters = self.list_filter if request is None else self.get_list_filter(request)
        exact = {getattr(each, "parameter_name", None) for each in filters}
        fields = [each for each in filters if isinstance(each, str)]
        if lookup not in exact and not any(f"{lookup}__".startswith(f"{field}__") for field in fields):
            raise ParameterRefused(lookup)
        check_parameter(lookup, value)
        return True

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        shown = (
            panel(self.get_queryset(request), self._expiry_column(request))
            if request.method == "GET"
            else None
        )
        try:
            return super().changelist_view(request, {"panel": shown, **(extra_context or {})})
        except ParameterRefused as refusal:
            text = gettext(
                "The list cannot be filtered or sorted by “%s”: no index serves that. It was left out."
            )
            self.message_user(request, text % refusal.name, messages.ERROR)
            query = request.GET.copy()
            query.pop(refusal.name, None)
            return HttpResponseRedirect(f"{request.path}?{query.urlencode()}")

    def _expiry_column(self, request: HttpRequest) -> int | None:
        """Return the number by which the address sorts by expiry: the check boxes of actions are a column too."""
        shown = list(self.get_list_display(request))
        return shown.index("expiry") + bool(self.get_actions(request)) if "expiry" in shown else None

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> IdempotencyRecord | None:
        record: Any = super().get_object(request, object_id, from_field)
        if record is not None:
            tell_owners([record])
            record.viewer, record.is_readable = request, self.has_view_bodies_permission(request)
        return record

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.stored_view)
        return [
            path("<path:object_id>/stored/<str:part>/", view, name=stored_url_name(self.opts)),
            *super().get_urls(),
        ]

    def stored_view(self, request: HttpRequest, object_id: str, part: str) -> HttpResponse:
        """Give the raw bytes of a payload or body, to somebody who may view them."""
        if not (self.has_view_permission(request) and self.has_view_bodies_permission(request)):
            raise PermissionDenied
        record = self.get_object(request, object_id)
        try:
            content = stored(record, part) if record is not None and part in ("payload", "body") else None
            why = gettext("There is nothing stored here.")
        except StoreUnavailable:
            content, why = None, gettext(UNREADABLE)
        if content is None:
            self.message_user(request, why, messages.WARNING)
            return HttpResponseRedirect("../../change/" if record else "../../../")
        return bodies.download(content, f"{part}-{object_id}", view="view" in request.GET)

    def has_view_bodies_permission(self, request: HttpRequest) -> bool:
        return self._allowed(request, "view_bodies")

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: IdempotencyRecord | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: IdempotencyRecord | None = None) -> bool:
        """Refuse Django's own delete, which would not pass over a record in use; there is an action instead."""
        return False


class IdempotencyRecordAdmin(IdempotencyRecordAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """What ``django.contrib.admin.site`` shows unless ADMIN is False."""
