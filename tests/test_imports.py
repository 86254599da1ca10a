"""What loading the app brings in: optional neighbours come when they are used, so that a start stays short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

TOP = Path(__file__).resolve().parent.parent
LOAD = """
import sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_idempotency"])
import django
django.setup()
import django_idempotency.decorators, django_idempotency.middleware, django_idempotency.rest_framework
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_optional_packages_are_not_loaded_with_the_app() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=TOP, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert {"django", "rest_framework", "django_idempotency"} <= loaded
    unwanted = {
        "cryptography",
        "redis",
        "valkey",
        "django_redis",
        "ninja",
        "drf_spectacular",
        "tqdm",
        "celery",
    }
    assert loaded & unwanted == set()
