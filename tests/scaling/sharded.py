"""A project of two shards and a replica that never catches up; prints what a request and its retry came to.

Run by test_shards.py in a process of its own: DATABASES cannot be changed in a running one.
"""

from __future__ import annotations

import json
import os
import sys
from contextvars import ContextVar
from typing import Any

import django
from django.conf import settings

SHARDS = ("default", "shard")
SHARD: ContextVar[str] = ContextVar("shard", default="default")


class Router:
    """Everything of a tenant is in its shard; reads go to a replica that has not even a table."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica" if os.environ["READS"] == "replica" else SHARD.get()

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return SHARD.get()

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db != "replica"


class ShardMiddleware:
    """The shard is named by a header."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        token = SHARD.set(request.headers["X-Shard"])
        try:
            return self.get_response(request)
        finally:
            SHARD.reset(token)


def database(place: str, name: str) -> dict[str, Any]:
    options = {"ATOMIC_REQUESTS": os.environ["ATOMIC_REQUESTS"] == "1"}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": place,
        "NAME": name,
        "USER": "postgres",
        **options,
    }


def configure() -> None:
    first, second = os.environ["SERVERS"].split(",")
    settings.configure(
        SECRET_KEY="tests",
        USE_TZ=True,
        ALLOWED_HOSTS=["testserver"],
        DATABASES={
            "default": database(first, "shop"),
            "shard": database(second, "shop"),
            "replica": database(second, "postgres"),
        },
        DATABASE_ROUTERS=["tests.scaling.sharded.Router"],
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "rest_framework",
            "django_idempotency",
            "example_project.shop",
        ],
        MIDDLEWARE=[
            "tests.scaling.sharded.ShardMiddleware",
            "django_idempotency.middleware.IdempotencyMiddleware",
        ],
        ROOT_URLCONF="tests.scaling.sharded_urls",
        IDEMPOTENCY={"MIDDLEWARE_PATHS": ["/plain/"]},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def main() -> None:
    from django.core.management import call_command
    from django.test import Client

    from django_idempotency.models import IdempotencyRecord
    from example_project.shop.models import Product

    def counted() -> dict[str, list[int]]:
        kinds = (IdempotencyRecord, Product)
        return {alias: [kind.objects.using(alias).count() for kind in kinds] for alias in SHARDS}

    for alias in SHARDS:
        call_command("migrate", database=alias, verbosity=0)
    before, replayed = counted(), {}
    for path in ("/probe/201/", "/plain/"):
        for alias in SHARDS:
            client = Client(headers={"Idempotency-Key": os.environ["KEY"], "X-Shard": alias})
            answers = [client.post(path, b"{}", "application/json") for _ in range(3)]
            replayed[f"{path} {alias}"] = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    after = counted()
    added = {
        alias: [new - old for new, old in zip(after[alias], before[alias], strict=True)] for alias in SHARDS
    }
    json.dump({"replayed": replayed, "added": added}, sys.stdout)


if __name__ == "__main__":
    # The router and the middleware are imported by this name, and share its variable.
    from tests.scaling.sharded import configure, main

    configure()
    main()
