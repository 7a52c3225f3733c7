"""The viewer on the command line: the link, and how long it stays."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager

from splat.viewer.access import LOOPBACK, ssh_line
from splat.viewer.server import Viewer

_PATIENCE = 15.0
"""Seconds that a page may take to come back (a reload, a moment without network)."""


@contextmanager
def opened_viewer(port: int | None = None, host: str = LOOPBACK, browse: bool = True) -> Iterator[Viewer]:
    """A running viewer whose link was printed, and opened (`browse`) where there is a desktop."""
    with Viewer(host, port) as viewer:
        say(f"viewer: {viewer.url}")
        if viewer.warning:
            say(f"warning: {viewer.warning}")
        else:
            say(f"from another computer: `{ssh_line(viewer.port)}` there, then the same link")
        if browse and has_desktop():
            webbrowser.open(viewer.url)
        yield viewer


def stay(viewer: Viewer, while_watched: bool = False) -> None:
    """Serve until Ctrl-C; with `while_watched`, only as long as a browser is there."""
    if while_watched and not viewer.visits:
        return
    say("Ctrl-C ends the viewer")
    try:
        gone = time.monotonic()
        while True:
            if viewer.browsers:
                gone = time.monotonic()
            if while_watched and time.monotonic() - gone > _PATIENCE:
                return
            time.sleep(0.2)
    except KeyboardInterrupt:
        return


def has_desktop() -> bool:
    """Whether a browser can be opened that is no text browser in this terminal."""
    if sys.platform in {"darwin", "win32"}:
        return "SSH_CONNECTION" not in os.environ
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
