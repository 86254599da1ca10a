"""What becomes of a project's CACHES in the connection of our own."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from django_idempotency.private_cache import PlainBytes, kind_of, private_cache

pytestmark = pytest.mark.once

URL = "redis://user:pass@127.0.0.1:1/3"
BACKENDS = {
    "django": "django.core.cache.backends.redis.RedisCache",
    "django-redis": "django_redis.cache.RedisCache",
    "django-valkey": "django_valkey.cache.ValkeyCache",
}


@pytest.fixture
def use(settings: Any) -> Any:
    """Return what sets the alias ``replays``."""

    def choose(backend: str, location: Any = URL, **more: Any) -> Any:
        settings.CACHES = {
            "replays": {"BACKEND": BACKENDS.get(backend, backend), "LOCATION": location, **more}
        }
        return private_cache("replays")

    return choose


def connection_keywords(cache: Any) -> dict[str, Any]:
    """Return what a backend makes its connections with."""
    if hasattr(cache, "client"):
        client = cache.client.get_client(write=True)
        return dict(client.connection_pool.connection_kwargs)
    return dict(cache._cache._get_connection_pool(write=True).connection_kwargs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_outs_are_ours_and_the_rest_is_the_projects(use: Any, backend: str) -> None:
    patient = {"socket_timeout": 30, "retry_on_timeout": True, "socket_keepalive": True}
    options = patient if backend == "django" else {"CONNECTION_POOL_KWARGS": patient, "SOCKET_TIMEOUT": 30}
    found = connection_keywords(use(backend, f"{URL}?socket_timeout=30", OPTIONS=options))
    assert (found["socket_timeout"], found["socket_connect_timeout"]) == (0.05, 0.05)
    assert not found.get("retry_on_timeout")
    assert found["socket_keepalive"]
    assert (found["username"], found["password"], found["db"]) == ("user", "pass", 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_connections_are_not_the_projects(use: Any, backend: str) -> None:
    private = use(backend)
    assert connection_keywords(private) != connection_keywords(caches["replays"])
    assert connection_keywords(caches["replays"]).get("socket_timeout") != 0.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_socket_paths_stay_paths(use: Any, backend: str) -> None:
    found = connection_keywords(use(backend, "unix:///run/redis.sock?db=2"))
    assert (found["path"], found["db"], found["socket_timeout"]) == ("/run/redis.sock", 2, 0.05)


def test_keys_are_made_as_the_project_makes_them(use: Any) -> None:
    cache = use(
        "django-redis", KEY_PREFIX="shop", VERSION=7, KEY_FUNCTION="tests.test_private_cache.tenants_key"
    )
    assert cache.make_key("k") == "tenant-1/shop/7/k"


def tenants_key(key: str, prefix: str, version: int) -> str:
    return f"tenant-1/{prefix}/{version}/{key}"


@pytest.mark.parametrize("backend", ["django-redis", "django-valkey"])
def test_serializer_compressor_and_what_hides_or_waits_are_not_the_projects(use: Any, backend: str) -> None:
    package = backend.replace("-", "_")
    options = {
        "SERIALIZER": f"{package}.serializers.json.JSONSerializer",
        "COMPRESSOR": f"{package}.compressors.zlib.ZlibCompressor",
        "CLIENT_CLASS": f"{package}.client.HerdClient",
        "CONNECTION_POOL_CLASS": f"{'redis' if package == 'django_redis' else 'valkey'}.BlockingConnectionPool",
        "CONNECTION_POOL_KWARGS": {"timeout": 20, "max_connections": 1},
        "IGNORE_EXCEPTIONS": True,
    }
    cache = use(backend, OPTIONS=options)
    assert type(cache.client).__name__ == "DefaultClient"
    assert type(cache.client._serializer) is PlainBytes
    assert type(cache.client._compressor).__name__ == "IdentityCompressor"
    assert type(cache.client.get_client(write=True).connection_pool).__name__ == "ConnectionPool"
    assert cache._ignore_exceptions is False
    assert cache.client.encode(b"\0plain") == b"\0plain"


def test_the_first_server_is_asked_and_no_replica_that_lags(use: Any) -> None:
    servers = ["redis://first", "redis://replica"]
    for location in (servers, ",".join(servers)):
        cache = use("django", location)
        assert [server.partition("?")[0] for server in cache._servers] == ["redis://first"]


def test_all_shards_are_asked(use: Any) -> None:
    options = {"CLIENT_CLASS": "django_redis.client.ShardClient"}
    assert len(use("django-redis", ["redis://a", "redis://b"], OPTIONS=options).client._server) == 2


@pytest.mark.parametrize(
    "name", ["filebased.FileBasedCache", "db.DatabaseCache", "memcached.PyMemcacheCache"]
)
def test_backends_that_pickle_for_others_to_read_are_refused(use: Any, name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="plain bytes"):
        use(f"django.core.cache.backends.{name}", "x")


class Counted:
    """What django-prometheus does: a backend of the project's own over one that we know."""


def test_backend_that_inherits_from_one_that_we_know_is_that_kind(settings: Any, monkeypatch: Any) -> None:
    from django.core.cache.backends.redis import RedisCache

    monkeypatch.setattr(f"{__name__}.Counted", type("Counted", (RedisCache,), {}))
    settings.CACHES = {"replays": {"BACKEND": f"{__name__}.Counted", "LOCATION": URL}}
    assert kind_of("replays") == BACKENDS["django"]
