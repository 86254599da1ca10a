"""A Valkey beside the tests as the replay cache, and a look at what is in it."""

from __future__ import annotations

from typing import Any

import redis
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

ALIAS = "replays"
BACKENDS = {
    "django-redis": "django_redis.cache.RedisCache",
    "django": "django.core.cache.backends.redis.RedisCache",
    "django-valkey": "django_valkey.cache.ValkeyCache",
}


def use(settings: Any, location: str, backend: str = "django-redis", **more: Any) -> None:
    """Turn the replay cache on, at a socket's path or a URL; ``more`` is for IDEMPOTENCY."""
    url = f"unix://{location}" if location.startswith("/") else location
    settings.CACHES = {**settings.CACHES, ALIAS: {"BACKEND": BACKENDS.get(backend, backend), "LOCATION": url}}
    settings.IDEMPOTENCY = {**settings.IDEMPOTENCY, "CACHE": ALIAS, **more}


class Inside:
    """What is in the server, past Django."""

    def __init__(self, path: str) -> None:
        self.client = redis.Redis(unix_socket_path=path)

    def names(self) -> list[bytes]:
        return sorted(self.client.keys("*"))

    def content(self) -> bytes:
        (name,) = self.names()
        value: bytes = self.client.get(name)
        return value

    def put(self, content: bytes) -> None:
        (name,) = self.names()
        self.client.set(name, content)


def send(key: str = "k", path: str = "/probe/create/", body: bytes = b"{}") -> tuple[Any, int]:
    """Return the answer to a keyed request, and how many statements the database got."""
    client = Client(headers={"Idempotency-Key": key}, raise_request_exception=False)
    with CaptureQueriesContext(connection) as captured:
        answer = client.post(path, body, content_type="application/json")
    return answer, len(captured)


def is_replay(answer: Any) -> bool:
    return answer.headers.get("Idempotent-Replayed") == "true"
