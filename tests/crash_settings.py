"""The example project with every door of the tests, and with points at which a process kills itself."""

from example_project.settings import *  # noqa: F403
from example_project.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "tests.crash_points.CrashPoints"]
MIDDLEWARE = ["tests.crash_points.middleware", *MIDDLEWARE]
ROOT_URLCONF = "tests.crash_urls"
IDEMPOTENCY = {"MIDDLEWARE_PATHS": ["/shop/", "/site"]}
