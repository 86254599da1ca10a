"""The app's configuration."""

from __future__ import annotations

from importlib.util import find_spec

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class IdempotencyConfig(AppConfig):
    """``"django_idempotency"`` in INSTALLED_APPS."""

    name = "django_idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, the log receivers, and what installed frameworks need."""
        from django_idempotency import (
            checks,
            counting,
            door_checks,
            logs,
            neighbour_checks,
            server_checks,
            upkeep,
        )
        from django_idempotency.callbacks import install

        checks.register()
        door_checks.register()
        neighbour_checks.register()
        server_checks.register()
        if apps.is_installed("drf_spectacular"):
            from django_idempotency.contrib import spectacular  # noqa: F401 (the import registers it)
        logs.connect()
        counting.connect()
        upkeep.connect()
        if find_spec("rest_framework"):
            from django_idempotency.rest_framework.inside import RestFramework

            install("rest_framework", RestFramework())
