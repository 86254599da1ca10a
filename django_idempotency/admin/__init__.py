"""Records in the admin; the setting ADMIN leaves them out, for a project that registers its own."""

from __future__ import annotations

from django.contrib import admin

from django_idempotency.admin.records import IdempotencyRecordAdmin, IdempotencyRecordAdminMixin
from django_idempotency.conf import conf
from django_idempotency.models import IdempotencyRecord

__all__ = ["IdempotencyRecordAdmin", "IdempotencyRecordAdminMixin"]

if conf.ADMIN:
    admin.site.register(IdempotencyRecord, IdempotencyRecordAdmin)
