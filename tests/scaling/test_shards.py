"""Records go where their tenant's effects go, and no replica is ever asked: two PostgreSQL servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.machine import TOP
from tests.servers import server

pytestmark = [pytest.mark.vendors("postgresql"), pytest.mark.processes]


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    """Start two servers, and give the folders of their sockets."""
    with server("postgres") as first, server("postgres") as second:
        yield f"{first['DATABASE_HOST']},{second['DATABASE_HOST']}"


@pytest.mark.parametrize("atomic", ["0", "1"], ids=["autocommit", "atomic_requests"])
@pytest.mark.parametrize("reads", ["shard", "replica"])
def test_each_shard_keeps_its_own_records_and_no_replica_is_read(
    servers: str, reads: str, atomic: str
) -> None:
    own = {"SERVERS": servers, "READS": reads, "ATOMIC_REQUESTS": atomic, "KEY": f"{reads}-{atomic}"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    command = [sys.executable, "-m", "tests.scaling.sharded"]
    done = subprocess.run(command, cwd=TOP, env={**kept, **own}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["replayed"].values()) == [[None, "true", "true"]] * 4
    assert found["added"] == {"default": [2, 2], "shard": [2, 2]}
