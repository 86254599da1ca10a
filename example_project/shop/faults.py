"""Accidents on demand: what goes wrong in production, at the moment where it hurts.

With ``SHOP_FAULTS`` on, a request names its accident in the header ``X-Shop-Fault``, a task or a command in its
argument ``fault``, and the code that calls ``strike()`` or ``occur()`` after its writes has it. Without the setting
neither means anything.

| value | what happens after the writes |
|---|---|
| ``kill-after-write`` | the process is killed at once |
| ``kill-before-commit`` | the process is killed when the finished record is written, and not yet committed |
| ``kill-after-commit`` | the process is killed when everything is committed, and the answer is not sent yet |
| ``sleep=SECONDS`` | the view takes that long |
| ``pause=FILE`` | the process writes its id into the file and goes on when somebody has removed it |
| ``raise`` | the view raises RuntimeError |
| ``invalid`` | the view raises a validation error, though it has written already |
"""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from asgiref.sync import sync_to_async
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
    """Have the accident that the request asks for; call it after the view's last write."""
    occur(request.headers.get(HEADER, ""))


async def astrike(request: HttpRequest) -> None:
    """Do the same in an async view, whose client may hang up while it sleeps or pauses."""
    wanted = request.headers.get(HEADER, "")
    if settings.SHOP_FAULTS and wanted.partition("=")[0] in DELAYS:
        for seconds in delays(wanted):
            await asyncio.sleep(seconds)
    else:
        await sync_to_async(occur)(wanted)


def occur(wanted: str) -> None:
    """Have an accident, if any is wanted and SHOP_FAULTS is on.

    Raises ``ValueError`` for an accident that is not in the table, so that a test with a typo fails.
    """
    if not settings.SHOP_FAULTS or not wanted:
        return
    if wanted.partition("=")[0] in DELAYS:
        for seconds in delays(wanted):
            time.sleep(seconds)
    elif wanted in FAULTS:
        FAULTS[wanted]()
    else:
        raise ValueError(f"{HEADER}: unknown fault {wanted!r}")


def delays(wanted: str) -> Iterator[float]:
    """Yield how many seconds to wait, until it is over."""
    name, _, argument = wanted.partition("=")
    return DELAYS[name](argument)


def sleep(seconds: str) -> Iterator[float]:
    """Last ``seconds``."""
    yield float(seconds)


def pause(name: str) -> Iterator[float]:
    """Last until somebody removes the file, in which the id of this process is found from the start."""
    file = Path(name)
    draft = file.with_suffix(".draft")
    draft.write_text(str(os.getpid()))
    draft.rename(file)  # in one step: whoever sees the file finds all of the number in it
    while file.exists():
        yield 0.01


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


DELAYS: dict[str, Callable[[str], Iterator[float]]] = {"sleep": sleep, "pause": pause}
FAULTS: dict[str, Callable[[], None]] = {
    "kill-after-write": kill,
    "kill-before-commit": kill_before_commit,
    "kill-after-commit": kill_after_commit,
    "raise": fail,
    "invalid": refuse,
}
