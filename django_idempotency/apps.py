"""The app's configuration."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class IdempotencyConfig(AppConfig):
    """``"django_idempotency"`` in INSTALLED_APPS."""

    name = "django_idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks and the log receivers."""
        from django_idempotency import checks, logs, neighbour_checks

        checks.register()
        neighbour_checks.register()
        if apps.is_installed("drf_spectacular"):
            from django_idempotency.contrib import spectacular  # noqa: F401 (the import registers it)
        logs.connect()
