"""Records in the admin; the setting ADMIN leaves them out, for a project that registers its own."""

from __future__ import annotations

from django.contrib import admin

from django_idempotency.admin.records import IdempotencyRecordAdmin, IdempotencyRecordAdminMixin
from django_idempotency.checks import is_readable
from django_idempotency.conf import conf
from django_idempotency.models import IdempotencyRecord

__all__ = ["IdempotencyRecordAdmin", "IdempotencyRecordAdminMixin"]

# Settings that are no dict get as far as the system checks, whose E001 says what to change.
if is_readable() and conf.ADMIN:
    admin.site.register(IdempotencyRecord, IdempotencyRecordAdmin)
