"""A cache connection of our own to an alias of CACHES: plain bytes, short time-outs, and no failure hidden.

The project's own connection pickles what it reads, may wait for seconds, and may take an outage for a miss.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django.conf import settings
from django.core.cache import CacheHandler
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

#: What one answer of the cache may take, in seconds, and a connection as well.
SOCKET_SECONDS = 0.05

DJANGO = "django.core.cache.backends.redis.RedisCache"
LOCAL_MEMORY = "django.core.cache.backends.locmem.LocMemCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"
_REDIS = (
    DJANGO,
    "django_redis.cache.RedisCache",
    "django_valkey.cache.ValkeyCache",
    "django_valkey.cluster_cache.cache.ClusterValkeyCache",
)
KINDS = (*_REDIS, LOCAL_MEMORY, DUMMY)

# Each changes what is sent, waits, or tries again.
_UNFIT_KEYWORDS = frozenset(
    {
        "serializer",
        "decode_responses",
        "retry",
        "retry_on_timeout",
        "retry_on_error",
        "max_connections",
        "timeout",
    }
)
_UNFIT_CLASSES = ("HerdClient", "BlockingConnectionPool")


class PlainBytes:
    """The serializer of our values, with the interface of all three packages: bytes in, the same bytes out."""

    def __init__(self, options: Any = None) -> None:
        """Take the options that a package hands to every serializer, and use none."""

    def dumps(self, value: bytes) -> bytes:
        return value

    def loads(self, value: bytes) -> bytes:
        return value


_SERIALIZER = f"{PlainBytes.__module__}.{PlainBytes.__qualname__}"


def kind_of(alias: str) -> str | None:
    """Return which of KINDS the backend of ``alias`` is or inherits from, or None for any other or for none."""
    try:
        bases = import_string(settings.CACHES[alias]["BACKEND"]).__mro__
    except (ImportError, KeyError):
        return None
    names = [f"{base.__module__}.{base.__qualname__}" for base in bases]
    return next((name for name in names if name in KINDS), None)


def private_cache(alias: str) -> Any:
    """Return a new connection to ``alias``, with the project's prefix, version and function for keys.

    It is for all threads of a process: those packages' clients may be shared, and keep a pool. Raises
    ImproperlyConfigured for a backend that cannot take plain bytes.
    """
    kind = kind_of(alias)
    if kind is None:
        raise ImproperlyConfigured(f"CACHES[{alias!r}] has no backend that keeps plain bytes.")
    params = settings.CACHES[alias]
    if kind in _REDIS:
        params = _redis_params(params, kind)
    return CacheHandler({alias: params}).create_connection(alias)


def _redis_params(params: dict[str, Any], kind: str) -> dict[str, Any]:
    given = {name: value for name, value in params.get("OPTIONS", {}).items() if not _is_unfit_class(value)}
    if kind == DJANGO:
        options = {**_fit(given), "serializer": _SERIALIZER}
    else:
        options = {
            **given,
            "SERIALIZER": _SERIALIZER,
            "IGNORE_EXCEPTIONS": False,
            "SOCKET_TIMEOUT": SOCKET_SECONDS,
            "SOCKET_CONNECT_TIMEOUT": SOCKET_SECONDS,
            "CONNECTION_POOL_KWARGS": _fit(given.get("CONNECTION_POOL_KWARGS", {})),
        }
        options.pop("COMPRESSOR", None)
    shards = str(given.get("CLIENT_CLASS", "")).endswith("ShardClient")
    urls = [_impatient(url) for url in _urls(params.get("LOCATION", ""))]
    # A replica lags: it would give an answer that the first server has forgotten.
    return {**params, "OPTIONS": options, "LOCATION": urls if shards else urls[:1]}


def _is_unfit_class(value: Any) -> bool:
    name = value if isinstance(value, str) else getattr(value, "__qualname__", "")
    return name.endswith(_UNFIT_CLASSES)


def _fit(keywords: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keywords.items() if name not in _UNFIT_KEYWORDS}


def _urls(location: Any) -> list[str]:
    return re.split("[;,]", location) if isinstance(location, str) else list(location)


def _impatient(url: str) -> str:
    """Return a server's URL with our time-outs, which win over all others, and make it another URL than the project's.

    django-redis keeps one pool per URL: with the same one we would share the project's connections.
    """
    place, _, query = url.partition("?")
    times = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": SOCKET_SECONDS}
    return f"{place}?{urlencode({**dict(parse_qsl(query)), **times})}"
