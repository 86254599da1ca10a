"""Accidents on demand: what goes wrong in production, at the moment where it hurts.

With ``SHOP_FAULTS`` on, a request names its accident in the header ``X-Shop-Fault``, and the view that calls
``strike()`` after its writes has it. Without the setting the header means nothing.

| value | what happens after the view's writes |
|---|---|
| ``kill-after-write`` | the process is killed at once |
| ``kill-before-commit`` | the process is killed when the finished record is written, and not yet committed |
| ``kill-after-commit`` | the process is killed when everything is committed, and the answer is not sent yet |
| ``sleep=SECONDS`` | the view takes that long |
| ``raise`` | the view raises RuntimeError |
| ``invalid`` | the view raises a validation error, though it has written already |
"""

import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from django.conf import settings
from django.core.signals import request_finished
from django.db import connections, router, transaction
from django.http import HttpRequest
from rest_framework.exceptions import ValidationError

from django_idempotency.models import IdempotencyRecord

HEADER = "X-Shop-Fault"
RECORD_TABLE = IdempotencyRecord._meta.db_table
RECORD_WRITTEN = re.compile(rf"\b(INSERT\s+INTO|UPDATE)\s+[\"`]?{RECORD_TABLE}\b", re.IGNORECASE)


def strike(request: HttpRequest) -> None:
    """Have the accident that the request asks for; call it after the view's last write.

    Raises ``ValueError`` for an accident that is not in the table, so that a test with a typo fails.
    """
    wanted = request.headers.get(HEADER)
    if not settings.SHOP_FAULTS or not wanted:
        return
    name, _, argument = wanted.partition("=")
    if name == "sleep":
        time.sleep(float(argument))
    elif name in FAULTS:
        FAULTS[name]()
    else:
        raise ValueError(f"{HEADER}: unknown fault {wanted!r}")


def kill() -> NoReturn:
    """End this process as the out-of-memory killer would: no handler runs, no transaction is ended."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came back")


def kill_before_commit() -> None:
    """Kill the process between the statement that finishes the record and COMMIT.

    The claim was made before the view ran, so the next write to the record's table is the finishing one.
    """
    alias = router.db_for_write(IdempotencyRecord)

    def watch(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        if RECORD_WRITTEN.search(str(sql)):
            kill()
        return result

    def stop_watching(**_: Any) -> None:
        # Connections belong to a thread: another thread's request that ends first does not find this watch.
        if watch in connections[alias].execute_wrappers:
            connections[alias].execute_wrappers.remove(watch)
            request_finished.disconnect(stop_watching)

    connections[alias].execute_wrappers.append(watch)
    request_finished.connect(stop_watching, weak=False)


def kill_after_commit() -> None:
    """Kill the process as soon as the transaction is committed, or now if there is none."""
    transaction.on_commit(kill)


def fail() -> NoReturn:
    """Raise what no view expects."""
    raise RuntimeError("The shop has an accident.")


def refuse() -> NoReturn:
    """Refuse the request after it was carried out, as a check in the wrong place does."""
    raise ValidationError({"detail": "The shop changes its mind."})


FAULTS: dict[str, Callable[[], None]] = {
    "kill-after-write": kill,
    "kill-before-commit": kill_before_commit,
    "kill-after-commit": kill_after_commit,
    "raise": fail,
    "invalid": refuse,
}
