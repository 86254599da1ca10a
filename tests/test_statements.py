"""Statements per request, exactly: printed, and held to what docs/decisions/0002-claim-by-row-lock.md says."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

pytestmark = pytest.mark.django_db(transaction=True)

# Statements beside the view's own two (INSERT and SELECT), COMMIT among them; BEGIN is one where Django sends it.
FIRST = {"sqlite": 5, "postgresql": 10, "mysql": 7}
REPLAY = 1


def statements(key: str | None) -> list[str]:
    headers = {} if key is None else {"Idempotency-Key": key}
    with CaptureQueriesContext(connection) as captured:
        Client(headers=headers).post("/probe/create/", b"{}", content_type="application/json")
    return [query["sql"] for query in captured]


def test_statements_of_a_first_request_and_of_a_replay(capsys: pytest.CaptureFixture[str]) -> None:
    unprotected = statements(None)
    assert len(unprotected) == 2
    first, replay = statements("k"), statements("k")
    with capsys.disabled():
        print(
            f"\n{connection.vendor}: {len(first) - 2} statements beside the view's, and {len(replay)} to replay"
        )
        print("".join(f"    {sql[:100]}\n" for sql in first), end="")
    assert len(first) - len(unprotected) == FIRST[connection.vendor]
    assert len(replay) == REPLAY
