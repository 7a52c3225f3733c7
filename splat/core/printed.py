"""What a program printed, read from the file it went to."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_BYTES = 20_000


def last_line(log: Path, start: int = 0) -> str:
    """The last line with something in it, which for most programs says what went wrong. `start`: the byte from which on
    the file is of this program. A progress bar that draws over itself counts as lines."""
    try:
        with log.open("rb") as f:
            size = f.seek(0, 2)
            f.seek(max(start, size - _TAIL_BYTES))
            lines = re.split(r"[\r\n]+", f.read().decode(errors="replace"))
    except OSError as e:  # it is wanted for a message, and another would hide it
        return f"what it printed cannot be read ({e.strerror})"
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
