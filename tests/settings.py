"""The example project's settings, plus what only the tests need."""

import os
import tempfile

from example_project.settings import *  # noqa: F403
from example_project.settings import DATABASES, MIDDLEWARE

ROOT_URLCONF = "tests.urls"
# The doors are put up where they are tested.
MIDDLEWARE = MIDDLEWARE[:-1]
IDEMPOTENCY = {"RETENTION": 24 * 60 * 60}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file: the default, an in-memory database, has other locks than the ones that users will meet.
    name = os.path.join(tempfile.gettempdir(), f"django-idempotency-test-{os.getpid()}.sqlite3")
    DATABASES["default"]["TEST"] = {"NAME": name}
