"""System checks of what stands beside this app: packages it can use, and those that must let its headers pass."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import register as register_check

from django_idempotency import encryption
from django_idempotency.conf import conf


def register() -> None:
    """Register every check of this module."""
    register_check(check_encryption)


def check_encryption(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E101: keys without the package that encrypts; every guarded request would get 503."""
    if encryption.fernet is not None or not _is_readable() or not conf.ENCRYPTION_KEYS:
        return []
    message = "IDEMPOTENCY['ENCRYPTION_KEYS'] is set, and the package cryptography is not installed."
    hint = "Run: python -m pip install 'django-idempotency[encryption]'."
    return [Error(message, hint=hint, id="django_idempotency.E101")]


def _is_readable() -> bool:
    return isinstance(getattr(settings, "IDEMPOTENCY", {}), dict)
