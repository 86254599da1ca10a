"""Waiting for somebody else's operation, without holding anything."""

from __future__ import annotations

import time


class Patience:
    """Pauses between polls that grow to 0.2 s: the owner's end or death is noticed within 250 ms."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.pause = 0.02
        #: Seconds slept so far.
        self.waited = 0.0

    def lasts(self) -> bool:
        """Sleep until the next poll and return True, or return False when the time is over."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            return False
        pause = min(self.pause, left)
        time.sleep(pause)
        self.waited += pause
        self.pause = min(self.pause * 1.5, 0.2)
        return True
