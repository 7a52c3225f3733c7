"""Ctrl-C and SIGTERM while a library's compiled code runs: one sentence, not a stack of the library or of Python."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

STOPPED = "stopped; run the same command again to go on from where it stopped."
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE = 130


def import_module(name: str) -> ModuleType:
    """Import a library that may take over signals (pycolmap's log prints a stack on SIGTERM): what was set before is
    set again. Signals that arrive meanwhile take effect afterwards, as an import cannot be left half done."""
    if name in sys.modules or threading.current_thread() is not threading.main_thread():
        return importlib.import_module(name)
    arrived: list[int] = []
    before = {s: signal.getsignal(s) for s in _SIGNALS}
    for s in before:
        signal.signal(s, lambda number, frame: arrived.append(number))
    try:
        return importlib.import_module(name)
    finally:
        for s, handler in before.items():
            signal.signal(s, signal.SIG_DFL if handler is None else handler)  # None: set by no Python code
        for number in arrived[:1]:
            os.kill(os.getpid(), number)


@contextmanager
def interruptible(grace: float = 1.0) -> Iterator[None]:
    """Within it SIGINT and SIGTERM raise KeyboardInterrupt where Python code runs. Compiled code that does not come
    back within `grace` seconds is left where it is: the process ends with STOPPED on standard error and EXIT_CODE.

    Only for work that a later run makes again if it is cut off at any point. In another thread than the main one it
    changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over = threading.Event()
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)

    def watch() -> None:
        while not over.is_set():
            if select.select([receiver], [], [], 0.2)[0] and set(os.read(receiver, 64)) & set(_SIGNALS):
                if not over.wait(grace):
                    sys.stdout.flush()
                    print(f"\nsplat: {STOPPED}", file=sys.stderr, flush=True)
                    os._exit(EXIT_CODE)
                return

    before = {s: signal.getsignal(s) for s in _SIGNALS}
    fd = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        for s in _SIGNALS:
            signal.signal(s, _raise)
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(fd)
        for s, handler in before.items():
            signal.signal(s, signal.SIG_DFL if handler is None else handler)
        watcher.join()
        os.close(receiver)
        os.close(sender)


def _raise(number: int, frame: object) -> None:
    raise KeyboardInterrupt
