"""The one door to Jinja2: templates of this folder, with every value escaped.

Names of photos, warnings and settings come from file names and command lines, so escaping is never switched off: no
template uses `safe`, and no value is marked as HTML.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splat.report.data import Number

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parent / "templates"


@cache
def environment() -> Environment:
    """Escapes everything; a name that a template misspells is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters |= {"decibels": decibels, "duration": duration, "short": short}
    return env


def render(template: str, **values: Any) -> str:
    """The text of `templates/<template>` with these values."""
    return environment().get_template(template).render(values)


def decibels(value: Number) -> str:
    """27.123 -> 27.12 dB; infinity (no difference at all) -> exact."""
    return f"{value:.2f} dB" if math.isfinite(value) else "exact"


def short(value: Number) -> str:
    """1234567 -> 1.23M, 0.0312 -> 0.031."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2g}"


def duration(seconds: Number) -> str:
    """75 -> 1 min 15 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
