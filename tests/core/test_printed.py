"""The last line that a program printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from splat.core.printed import last_line


@pytest.mark.parametrize(
    "text,found",
    [
        ("one\ntwo\n\n  \n", "two"),
        ("one\r\ntwo \r\n", "two"),
        (" 10 %\r 20 %\r", "20 %"),
        ("cut off", "cut off"),
        (" \n", "it printed nothing"),
        ("", "it printed nothing"),
        ("x" * 50_000 + "\nlast\n", "last"),
    ],
)
def test_the_last_line_is_the_last_with_something_in_it(tmp_path: Path, text: str, found: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(text.encode())
    assert last_line(log) == found


def test_what_another_program_printed_before_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    start = log.stat().st_size
    assert last_line(log, start) == "it printed nothing"
    log.write_text("before\nafter\n")
    assert last_line(log, start) == "after"


def test_bytes_of_no_text_and_a_file_that_is_gone_make_no_other_fault(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"good \xff\n")
    assert last_line(log) == "good \ufffd"
    assert "cannot be read" in last_line(tmp_path / "missing")
