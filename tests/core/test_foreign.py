"""Names and files of other programs: whatever they are, one sentence or a safe value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from splat.core.errors import SplatError
from splat.core.foreign import parse_json, path_inside, read_json, read_text, shown


@pytest.mark.parametrize("name", ["a.jpg", "left/0.jpg", "left\\0.jpg", "./a.jpg", "a b/ü (1).jpg", "..a/b..jpg"])
def test_names_of_photos_stay_inside_their_folder(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name).is_relative_to(tmp_path)


LEAVING = ["..", "../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "\\a.jpg", "C:\\a.jpg", "C:a.jpg", "//h/s/a.jpg"]


@pytest.mark.parametrize("name", [*LEAVING, "", ".", "a\0b", "x" * 300])
def test_names_that_leave_the_folder_or_name_no_file_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SplatError, match="relative name"):
        path_inside(tmp_path, name)


def test_a_link_inside_the_folder_does_not_lead_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(SplatError, match="through a link"):
        path_inside(tmp_path / "out", "link/victim.jpg")


def test_what_is_shown_cannot_move_the_cursor_nor_break_the_line() -> None:
    assert shown("a\x1b[2J\r\nb\u202e") == "a\\x1b[2J\\x0d\\x0ab\\u202e"
    assert shown(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    assert shown(os.fsdecode(b"caf\xe9.jpg")).encode() and shown("Straße 3 – 東京.jpg") == "Straße 3 – 東京.jpg"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' + "[" * 5000 + "]" * 5000 + "}", "nested too deep"),
        ('{"w": ' + "9" * 5000 + "}", "digits"),
        ("[]", "JSON list"),
        ('{"a": }', "line 1"),
    ],
)
def test_malformed_json_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(SplatError, match=words) as caught:
        parse_json(text, "a.json")
    assert "\n" not in str(caught.value) and "a.json" in str(caught.value)


def test_pipes_devices_and_folders_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "device"), (tmp_path, "a folder")):
        with pytest.raises(SplatError, match=words):
            read_json(path)
    with pytest.raises(SplatError, match="does not exist"):
        read_text(tmp_path / "missing")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(SplatError, match="not a UTF-8"):
        read_text(tmp_path / "latin")
    (tmp_path / "large").write_bytes(b"x" * 100)
    with pytest.raises(SplatError, match="at most"):
        read_text(tmp_path / "large", max_bytes=99)
