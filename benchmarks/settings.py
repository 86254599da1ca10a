"""The example shop without what a benchmark would measure instead: sessions, CSRF, debug.

``BENCH_CACHE`` is the path of a Redis socket: then replays come from it.
"""

import os

from example_project.settings import *  # noqa: F403
from example_project.settings import DATABASES, REST_FRAMEWORK

CACHE_SOCKET = os.environ.get("BENCH_CACHE", "")

ROOT_URLCONF = "benchmarks.urls"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
IDEMPOTENCY = {"CACHE": "default"} if CACHE_SOCKET else {}
CACHES = {
    "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": f"unix://{CACHE_SOCKET}"}
    if CACHE_SOCKET
    else {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
}
DATABASES["default"] |= {"ATOMIC_REQUESTS": True, "CONN_MAX_AGE": None}
REST_FRAMEWORK |= {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}
DEBUG = False
