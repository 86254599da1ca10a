"""The app's configuration."""

from __future__ import annotations

from importlib.util import find_spec

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class IdempotencyConfig(AppConfig):
    """``"django_idempotency"`` in INSTALLED_APPS."""

    name = "django_idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, the log receivers, and how the views of installed frameworks are guarded."""
        from django_idempotency import checks, door_checks, logs
        from django_idempotency.callbacks import install

        checks.register()
        door_checks.register()
        logs.connect()
        if find_spec("rest_framework"):
            from django_idempotency.rest_framework.inside import RestFramework

            install("rest_framework", RestFramework())
