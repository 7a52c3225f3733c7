"""Training time, training speed, and requests to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds since its creation, plus those of earlier runs, without those spent inside `paused`."""

    def __init__(self, before: float) -> None:
        self._started = time.monotonic() - before
        self._paused_at: float | None = None

    def seconds(self) -> float:
        return (time.monotonic() if self._paused_at is None else self._paused_at) - self._started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block whose time does not count."""
        self._pause()
        try:
            yield
        finally:
            self._resume()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """A block whose time counts, also inside `paused`: for waiting until queued GPU work is done."""
        was_paused = self._paused_at is not None
        if was_paused:
            self._resume()
        try:
            yield
        finally:
            if was_paused:
                self._pause()

    def _pause(self) -> None:
        self._paused_at = time.monotonic()

    def _resume(self) -> None:
        assert self._paused_at is not None
        self._started += time.monotonic() - self._paused_at
        self._paused_at = None


class Meter:
    """Steps per second, updated twice a second."""

    def __init__(self, step: int) -> None:
        self.rate = 0.0
        self._since, self._from = time.monotonic(), step

    def update(self, step: int) -> None:
        """Report that `step` steps are done."""
        elapsed = time.monotonic() - self._since
        if elapsed < 0.5:
            return
        now = (step - self._from) / elapsed
        self.rate = now if self.rate == 0 else 0.7 * self.rate + 0.3 * now
        self._since, self._from = time.monotonic(), step


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the current step can be completed. A second signal has its default
    effect."""
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
