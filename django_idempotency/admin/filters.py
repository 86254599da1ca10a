"""Filters whose price does not grow with the table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_idempotency.admin.ranges import by_owner, edge_of, in_expiry, unfinished, within
from django_idempotency.admin.texts import Text
from django_idempotency.models import IdempotencyRecord, IdempotencyRecordQuerySet

#: Set on a request whose filters looked at the records that expire last only.
LOOKED_AT_LAST = "idempotency_looked_at_last"


class RecordFilter(SimpleListFilter, ABC):
    """A filter with fixed choices; a value that is none of them is refused by the list."""

    choices_shown: dict[str, Text]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Text]]:
        return list(self.choices_shown.items())

    def queryset(self, request: HttpRequest, queryset: Any) -> IdempotencyRecordQuerySet:
        value = self.value()
        return queryset if value is None else self.narrow(request, queryset, value)

    @abstractmethod
    def narrow(
        self, request: HttpRequest, records: IdempotencyRecordQuerySet, value: str
    ) -> IdempotencyRecordQuerySet:
        """Return those of the records that the value is about."""

    def last(self, request: HttpRequest, records: IdempotencyRecordQuerySet) -> IdempotencyRecordQuerySet:
        """Bound what no index serves to the records that expire last; a search is bounded by its own index."""
        if request.GET.get("q", "").strip():
            return records
        edge = edge_of(records)
        if edge is not None:
            setattr(request, LOOKED_AT_LAST, True)
        return within(records, edge)


class ExpiryFilter(RecordFilter):
    """Live, expiring within the hour, or expired: three ranges of the expiry index."""

    title = _("expiry")
    parameter_name = "expiry"
    choices_shown = {"live": _("live"), "soon": _("within 1 hour"), "expired": _("expired")}

    def narrow(
        self, request: HttpRequest, records: IdempotencyRecordQuerySet, value: str
    ) -> IdempotencyRecordQuerySet:
        return in_expiry(records, value)


class StateFilter(RecordFilter):
    """The state, and of what is in progress, whether its owner lives."""

    title = _("state")
    parameter_name = "state"
    choices_shown = {
        "completed": _("completed"),
        "in_progress": _("in progress"),
        "interrupted": _("interrupted"),
        "unknown": _("outcome unknown"),
    }

    def narrow(
        self, request: HttpRequest, records: IdempotencyRecordQuerySet, value: str
    ) -> IdempotencyRecordQuerySet:
        if value == "completed":
            return self.last(request, records).completed()
        if value == "unknown":
            return unfinished(records).filter(state=IdempotencyRecord.State.UNKNOWN)
        held, free = by_owner(records)
        return records.filter(id__in=held if value == "in_progress" else free or [])


class MethodFilter(RecordFilter):
    """The request's method."""

    title = _("method")
    parameter_name = "method"
    choices_shown = {name: name for name in ("POST", "PATCH", "PUT", "DELETE")}

    def narrow(
        self, request: HttpRequest, records: IdempotencyRecordQuerySet, value: str
    ) -> IdempotencyRecordQuerySet:
        return self.last(request, records).filter(method=value)


class StatusFilter(RecordFilter):
    """The answer's status, by its class."""

    title = _("status")
    parameter_name = "status"
    choices_shown = {digit: f"{digit}xx" for digit in "2345"}

    def narrow(
        self, request: HttpRequest, records: IdempotencyRecordQuerySet, value: str
    ) -> IdempotencyRecordQuerySet:
        low = int(value) * 100
        return self.last(request, records).filter(response_status__gte=low, response_status__lt=low + 100)


class CreatedFilter(RecordFilter):
    """How long ago the record was created."""

    title = _("created")
    parameter_name = "created"
    choices_shown = {"1": _("within 1 hour"), "24": _("within 24 hours"), "168": _("within 7 days")}

    def narrow(
        self, request: HttpRequest, records: IdempotencyRecordQuerySet, value: str
    ) -> IdempotencyRecordQuerySet:
        since = timezone.now() - timedelta(hours=int(value))
        return self.last(request, records).filter(created_at__gt=since)


class ReplayedFilter(RecordFilter):
    """Whether a retry has got the answer."""

    title = _("replayed")
    parameter_name = "replayed"
    choices_shown = {"yes": _("replayed"), "24": _("within 24 hours"), "no": _("never replayed")}

    def narrow(
        self, request: HttpRequest, records: IdempotencyRecordQuerySet, value: str
    ) -> IdempotencyRecordQuerySet:
        last = self.last(request, records)
        if value == "24":
            return last.filter(last_replayed_at__gt=timezone.now() - timedelta(hours=24))
        return last.filter(last_replayed_at__isnull=value == "no")


FILTERS = (ExpiryFilter, StateFilter, StatusFilter, MethodFilter, CreatedFilter, ReplayedFilter)


def refused(name: str, value: str) -> bool:
    """Tell whether a filter of ours would be asked for something that it does not know."""
    return any(each.parameter_name == name and value not in each.choices_shown for each in FILTERS)
