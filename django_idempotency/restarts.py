"""A request and a view as they were before the first run, for another one: attributes, session, input at its start."""

from __future__ import annotations

import copy
import logging
import os
from contextlib import suppress
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.datastructures import MultiValueDict

from django_idempotency.bodies import each_of
from django_idempotency.exceptions import StoreUnavailable

_SESSION_DATA = "_session_cache"
_MESSAGES = "_messages"
_CONTAINERS = (list, dict, set)
_GONE = (
    "The transaction was undone, and the view had closed or moved an uploaded file that another run would read,"
    " so nothing was kept: retry with the same key."
)

logger = logging.getLogger("django_idempotency")


class Restart:
    """A request as it is now, for another run of the view: attributes, session, and input at its start."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.attributes = dict(request.__dict__)
        self.session = _session_state(self.attributes.get("session"))
        self.messages = fresh(self.attributes.get(_MESSAGES))

    def restore(self) -> None:
        """Undo what the view did to the request; raise StoreUnavailable where its files cannot be read again."""
        self.request.__dict__.clear()
        self.request.__dict__.update(self.attributes)
        if self.messages is not None:
            setattr(self.request, _MESSAGES, fresh(self.messages))
        session = self.attributes.get("session")
        if session is not None:
            session.__dict__.clear()
            session.__dict__.update(self.session)
            self.session = _session_state(session)
        try:
            rewind(self.request)
        except (OSError, ValueError) as error:
            logger.error(_GONE, exc_info=error)
            raise StoreUnavailable(_GONE) from error


def fresh(value: Any) -> Any:
    """Return a copy of an object whose lists, dicts and sets are its own: a run must not find another one's in them."""
    copied = copy.copy(value)
    held = getattr(copied, "__dict__", None)
    if isinstance(held, dict):
        held.update(own_containers(held))
    return copied


def own_containers(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an object's attributes whose lists, dicts and sets are copies too."""
    return {name: each.copy() if type(each) in _CONTAINERS else each for name, each in attributes.items()}


def let_go(response: HttpResponseBase | None) -> None:
    """Close the files of an answer that nobody gets; ``close()`` would tell Django that the request is finished."""
    for close in getattr(response, "_resource_closers", ()):
        with suppress(Exception):
            close()


def _session_state(session: Any) -> dict[str, Any]:
    """Return a session's attributes, its data only where a middleware has changed them: else they are read again."""
    state = dict(getattr(session, "__dict__", {}))
    if state.get("modified"):
        state[_SESSION_DATA] = copy.deepcopy(state.get(_SESSION_DATA, {}))
    else:
        state.pop(_SESSION_DATA, None)
    return state


def rewind(request: HttpRequest) -> None:
    """Put whatever has been read of a request back to its start, for another run of the view.

    Raises ValueError for a file that the view closed, OSError for one that it moved.
    """
    internals: Any = request
    for _, file in each_of(getattr(request, "_files", MultiValueDict())):
        file.seek(0)
        if hasattr(file, "temporary_file_path"):
            os.stat(file.temporary_file_path())  # a storage takes it away by moving it
    if isinstance(internals._stream, (SpooledTemporaryFile, BytesIO)):
        internals._stream.seek(0)
        internals._read_started = hasattr(request, "_body")
