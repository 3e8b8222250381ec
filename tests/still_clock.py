"""A clock that stands still: time for what is due later, moved by hand."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass


class Clock:
    """Time that passes only in `advance`; what is due is called in order."""

    def __init__(self):
        self.now_s = 1000.0
        self._due = []
        self._order = itertools.count()

    def time(self):
        return self.now_s

    def call_later(self, delay_s, callback):
        assert delay_s >= 0
        timer = Timer(callback)
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._order), timer))
        return timer

    def advance(self, seconds):
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, timer = heapq.heappop(self._due)
            if timer.callback is not None:
                timer.callback()
        self.now_s = end_s

    @property
    def is_quiet(self):
        """Whether nothing waits to be called."""
        return all(timer.callback is None for _, _, timer in self._due)


@dataclass
class Timer:
    callback: object

    def cancel(self):
        self.callback = None
