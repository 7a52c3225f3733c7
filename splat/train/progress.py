"""How fast training goes, and how it is asked to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Meter:
    """Steps per second, and when it is time to say so (twice a second)."""

    def __init__(self, step: int) -> None:
        self.rate = 0.0
        self._since, self._from = time.monotonic(), step

    def due(self, step: int) -> bool:
        elapsed = time.monotonic() - self._since
        if elapsed < 0.5:
            return False
        now = (step - self._from) / elapsed
        self.rate = now if self.rate == 0 else 0.7 * self.rate + 0.3 * now
        self._since, self._from = time.monotonic(), step
        return True


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the step at hand is finished; a second signal acts as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: object) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    for s in before:
        signal.signal(s, request)
    try:
        yield event
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
