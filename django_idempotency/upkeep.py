"""What is done at the end of a request, when its answer is on its way and nobody waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.signals import request_finished
from django.db import connections

from django_idempotency.claims.registry import record_alias
from django_idempotency.claims.retention import PurgeLimits, purge_expired
from django_idempotency.claims.sqlite import without_waiting
from django_idempotency.conf import conf
from django_idempotency.counting import tally, write
from django_idempotency.models import IdempotencyRecord

logger = logging.getLogger("django_idempotency")

#: At most one purge per so many seconds and process.
PURGE_EVERY = 10.0


class Pace:
    """Says that it is time, once in ``seconds``, to one of many threads."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._next = 0.0

    def is_time(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if now < self._next:
                return False
            self._next = now + self.seconds
            return True


purge_pace = Pace(PURGE_EVERY)


def connect() -> None:
    """Do it after every request, under WSGI and ASGI alike."""
    request_finished.connect(after_request, dispatch_uid="django_idempotency.upkeep")


def after_request(**kwargs: Any) -> None:
    """Write down what was counted, and purge a little if PURGE_AFTER_REQUESTS says so, where that is due.

    It is a receiver of any signal between two pieces of work; it waits for no lock and raises nothing.
    """
    for using in tally.due():
        with _raising_nothing():
            _apart(using, write)
    if conf.PURGE_AFTER_REQUESTS and purge_pace.is_time():
        with _raising_nothing():
            _apart(record_alias(), _purge_some)


@contextmanager
def _raising_nothing() -> Iterator[None]:
    """Put off what fails: the answer is given, and the next request may do it.

    A router may need a request to choose by, and a test that may not use the database forbids it by an error that is
    none of the database's.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever a router or a test raises)
        logger.info("Upkeep is put off (%s)", type(error).__name__)


def purge(
    using: str | None = None, batch_size: int = 1000, max_seconds: float | None = 240, pause: float = 0
) -> int:
    """Delete what has expired, for up to ``max_seconds``, and return how many records that were: a queue's task.

    Two that run at once share the work, and it may be run again after any failure.
    """
    limits = PurgeLimits(batch_size, max_seconds=max_seconds, pause=pause)
    return purge_expired(using or record_alias(), limits).deleted


def _purge_some(using: str) -> None:
    with without_waiting(using):
        # A look first: it takes no lock, and SQLite has one lock for all.
        if IdempotencyRecord.objects.using(using).expired().exists():
            most = conf.PURGE_AFTER_REQUESTS
            purge_expired(using, PurgeLimits(batch_size=most, max_rows=most))


def _apart(using: str, call: Callable[[str], object]) -> None:
    """Call it outside every transaction, and leave the connection open or closed as it was.

    Django has closed it before us where connections are not persistent. Inside ``atomic()`` we are in a test.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        return
    was_open = connection.connection is not None
    try:
        call(using)
    finally:
        if not was_open:
            connection.close()
