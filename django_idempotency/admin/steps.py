"""What an operator can do to records: each step with its permission, its question, and its writer in ``claims``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.admin.models import CHANGE, DELETION
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from django_idempotency.admin.texts import Text
from django_idempotency.claims import retention
from django_idempotency.models import IdempotencyRecordQuerySet

Choose = Callable[[IdempotencyRecordQuerySet], IdempotencyRecordQuerySet]
Write = Callable[[IdempotencyRecordQuerySet, list[UUID], str], set[UUID]]


@dataclass(frozen=True)
class Step:
    """One action: which of the chosen records it is for, what it asks, does, says and logs.

    ``write`` gets the records, the ids to change and the chosen option, and returns the ids that it changed.
    """

    name: str
    title: Text
    question: Any
    meaning: Text
    done: Any
    logged: str
    flag: int
    choose: Choose
    write: Write
    option: Text = ""
    options: tuple[tuple[str, Text], ...] = ()
    dangerous: bool = False
    leave: Text = ""


def _oldest_first(records: IdempotencyRecordQuerySet) -> IdempotencyRecordQuerySet:
    return records.order_by("expires_at")


EXPIRE = Step(
    name="expire_now",
    title=_("Expire now"),
    question=ngettext_lazy("Expire %d live record now?", "Expire %d live records now?"),
    meaning=_("Its key counts as unused from then on: a retry runs the operation again."),
    done=ngettext_lazy("%d record expired.", "%d records expired."),
    logged="Expired now.",
    flag=CHANGE,
    choose=lambda records: records.live().order_by("-expires_at"),
    write=lambda records, ids, option: retention.expire_now(records, ids),
    dangerous=True,
)
EXTEND = Step(
    name="extend_expiry",
    title=_("Extend the expiry"),
    question=ngettext_lazy("Extend the expiry of %d live record?", "Extend the expiry of %d live records?"),
    meaning=_("Until the new expiry, a retry gets the stored answer. What has expired stays expired."),
    done=ngettext_lazy("The expiry of %d record was extended.", "The expiry of %d records was extended."),
    logged="Extended by %s h.",
    flag=CHANGE,
    choose=lambda records: records.live().order_by("-expires_at"),
    write=lambda records, ids, option: retention.extend(records, ids, timedelta(hours=int(option))),
    option=_("Later by"),
    options=(("1", _("1 hour")), ("24", _("1 day")), ("168", _("7 days")), ("720", _("30 days"))),
)
PURGE = Step(
    name="purge_expired",
    title=_("Purge what has expired"),
    question=ngettext_lazy("Purge %d expired record?", "Purge %d expired records?"),
    meaning=_("Only what has expired is deleted; live records among the chosen ones are kept."),
    done=ngettext_lazy("%d record purged.", "%d records purged."),
    logged="Purged.",
    flag=DELETION,
    choose=lambda records: _oldest_first(records.expired()),
    write=lambda records, ids, option: retention.purge_chosen(records, ids),
)
DELETE = Step(
    name="delete_records",
    title=_("Delete, live records too"),
    question=ngettext_lazy("Delete %d record, live or not?", "Delete %d records, live or not?"),
    meaning=_("The operation may run again: a retry finds no record, and what it did before is not undone."),
    done=ngettext_lazy("%d record deleted.", "%d records deleted."),
    logged="Deleted.",
    flag=DELETION,
    choose=_oldest_first,
    write=lambda records, ids, option: retention.delete_chosen(records, ids),
    dangerous=True,
)
EXPORT = Step(
    name="export_metadata",
    title=_("Export metadata"),
    question=ngettext_lazy("Export the metadata of %d record?", "Export the metadata of %d records?"),
    meaning=_(
        "Keys, scopes, paths, states and times; no payload, no header and no body. "
        "The file is downloaded and this page stays: go back to the list afterwards."
    ),
    done=ngettext_lazy("%d record exported.", "%d records exported."),
    logged="Metadata exported as %s.",
    flag=CHANGE,
    choose=lambda records: records.order_by("-expires_at"),
    write=lambda records, ids, option: set(ids),
    option=_("As"),
    options=(("csv", "CSV"), ("json", "JSON")),
    leave=_("Back to the list"),
)
