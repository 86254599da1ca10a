"""What is done at the end of a request, when its answer is on its way and nobody waits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.signals import request_finished
from django.db import Error, connections

from django_idempotency.counting import tally, write

logger = logging.getLogger("django_idempotency")


def connect() -> None:
    """Do it after every request, under WSGI and ASGI alike."""
    request_finished.connect(after_request, dispatch_uid="django_idempotency.upkeep")


def after_request(**kwargs: Any) -> None:
    """Write down what was counted, where that is due."""
    for using in tally.due():
        _apart(using, write)


def _apart(using: str, call: Callable[[str], object]) -> None:
    """Call it outside every transaction, and leave the connection open or closed as it was; raise nothing.

    Django has closed it before us where connections are not persistent. Inside ``atomic()`` we are in a test.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        return
    was_open = connection.connection is not None
    try:
        call(using)
    except Error as error:
        logger.info("Upkeep on %r is put off (%s)", using, type(error).__name__)
    finally:
        if not was_open:
            connection.close()
