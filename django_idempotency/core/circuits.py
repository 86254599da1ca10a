"""A circuit breaker: a server that failed is left alone for a while, and then asked by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Circuit:
    """Tells who may ask a server that can fail: everybody, nobody during a pause, then one who tries.

    The pause begins with 1 second and doubles with each trial that fails, up to 30. Thread-safe; costs no lock while
    the server answers. ``clock`` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._pause = 0.0
        self._until = 0.0
        self._round = 0

    def ticket(self) -> int | None:
        """Return what to report the result with, or None for: do not ask now."""
        if not self._pause:
            return self._round
        with self._lock:
            now = self._clock()
            if now < self._until:
                return None
            # Whoever tries and never reports is followed by another after the same pause.
            self._until = now + self._pause
            self._round += 1
            return self._round

    def succeeded(self, ticket: int) -> bool:
        """Let everybody ask again; tell whether this ends a pause."""
        if not self._pause:
            return False
        with self._lock:
            ends = ticket == self._round and self._pause > 0
            if ends:
                self._pause = 0.0
            return ends

    def failed(self, ticket: int) -> float | None:
        """Begin a pause and return its seconds; None for one of many who failed together, or after the others."""
        with self._lock:
            if ticket != self._round:
                return None
            self._pause = min(self._pause * 2, LONGEST_PAUSE) or FIRST_PAUSE
            self._until = self._clock() + self._pause
            self._round += 1
            return self._pause
