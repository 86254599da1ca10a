"""The list: what may be asked of it, and whose owner lives."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from django_idempotency.admin.filters import LOOKED_AT_LAST, refused
from django_idempotency.admin.ranges import COUNT_LIMIT
from django_idempotency.claims.liveness import interrupted
from django_idempotency.core.operations import operation_id
from django_idempotency.models import IdempotencyRecord

_BULKY = ("request_payload", "response_body", "response_headers")
_SCOPES_TRIED = 20


class ParameterRefused(Exception):
    """The address asks for a filter or an order that no index serves, or for something that there is not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class RecordChangeList(ChangeList):
    """Sorts by expiry alone, and tells of each record in progress whether its owner lives."""

    looked_at_last = False
    count_limit = COUNT_LIMIT

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[IdempotencyRecord]) -> Any:
        asked = self.params.get(ORDER_VAR, "")
        if not all(self._is_sortable(column) for column in asked.split(".") if asked):
            raise ParameterRefused(ORDER_VAR)
        return super().get_ordering(request, queryset)

    def _is_sortable(self, column: str) -> bool:
        try:
            name = self.list_display[abs(int(column))]
        except (ValueError, IndexError):
            return False
        return name in (self.sortable_by or ())

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[IdempotencyRecord]:
        found = super().get_queryset(request, *args, **kwargs)
        self.looked_at_last = hasattr(request, LOOKED_AT_LAST)
        return found.defer(*_BULKY)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        tell_owners(self.result_list)


def tell_owners(records: list[Any]) -> None:
    """Note on each record in progress whether it is interrupted: True, False, or None where that cannot be told."""
    running = [record for record in records if record.state == IdempotencyRecord.State.IN_PROGRESS]
    if not running:
        return
    free = interrupted(running[0]._state.db, [record.id for record in running])
    for record in running:
        record.interrupted = None if free is None else record.id in free


def search(records: QuerySet[IdempotencyRecord], term: str) -> QuerySet[IdempotencyRecord]:
    """Find the exact key, the id, or the scope and the key with a space between: each is a look-up in an index.

    Django's own search would use a case-insensitive match that no index serves.
    """
    ids = [operation_id(scope, key) for scope, key in _scopes_and_keys(term)]
    with suppress(ValueError):
        ids.append(UUID(term))
    return records.filter(Q(key=term) | Q(id__in=ids)) if ids else records.filter(key=term)


def _scopes_and_keys(term: str) -> list[tuple[str, str]]:
    """Return every way to part the term: a scope has spaces in it, and outside HTTP a key may have some too."""
    words = term.split(" ")
    return [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))][:_SCOPES_TRIED]


def check_parameter(name: str, value: Any) -> None:
    """Raise ParameterRefused for a value that our filter of this name does not know."""
    if refused(name, str(value)):
        raise ParameterRefused(name)
