"""What a user meets before anything runs: help, versions, mistakes."""

import dataclasses
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splat import __version__
from splat.__main__ import COMMANDS, entry, main


def _run(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "splat", *args], capture_output=True, text=True, timeout=120)


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys, splat.__main__ as m; m.main(['--help']); m.main(['--version']); "
        "heavy = {'torch', 'numpy', 'cv2', 'tyro', 'pycolmap', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert __version__ in done.stdout and all(name in done.stdout for name in COMMANDS)


def test_help_takes_less_than_half_a_second() -> None:
    times = []
    for _ in range(5):
        started = time.monotonic()
        _run("--help")
        times.append(time.monotonic() - started)
    assert statistics.median(times) < 0.5


def _help(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_table_explains_itself(command: str, capsys: pytest.CaptureFixture) -> None:
    assert "usage" in _help(capsys, command, "--help").lower()


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert main(["reconstrct"]) == 2
    assert "splat reconstruct" in capsys.readouterr().err


def test_a_missing_folder_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = _run("reconstruct", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"), "--quiet")
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_shows_what_people_use_and_help_all_the_rest(capsys: pytest.CaptureFixture) -> None:
    brief, full = _help(capsys, "reconstruct", "--help"), _help(capsys, "reconstruct", "--help-all")
    flags = set(re.findall(r"^\W*(--[a-z][a-z-]*)", brief, re.M)) - {"--help"}
    assert 15 <= len(flags) <= 20 and {"--preset", "--method", "--out", "--masks"} <= flags
    assert "--help-all" in brief and "--train.rates.means" not in brief
    assert "--train.rates.means" in full and "--edgs.init.budget" in full and len(full) > 5 * len(brief)
    for hidden in ("--explicit", "--methods"):
        assert hidden not in full


def test_every_common_flag_is_a_field() -> None:
    from splat.commands.init import InitOnly
    from splat.commands.reconstruct import Reconstruct

    for command in (Reconstruct, InitOnly):
        assert set(command.common) <= {f.name for f in dataclasses.fields(command)}


def test_who_reads_only_the_beginning_of_the_help_ends_it_quietly() -> None:
    for arguments in ("--help", "reconstruct --help-all"):
        command = f"{sys.executable} -m splat {arguments} | head -1"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
        assert done.stdout and done.stderr == ""


def test_a_negated_flag_is_explicit_under_the_name_of_its_field() -> None:
    from splat.cli import explicit_names
    from splat.commands.reconstruct import Reconstruct

    argv = ["p", "--train.views.no-exposure", "--no-renders", "--seed=3", "--train.rates.means", "1e-4"]
    expected = ("renders", "seed", "train.rates.means", "train.views.exposure")
    assert explicit_names(argv, Reconstruct.flags()) == expected


def test_flags_may_be_written_with_dashes_or_underscores() -> None:
    from splat.cli import parse
    from splat.commands.reconstruct import Reconstruct

    a = parse(Reconstruct, ["p", "--out", "r", "--test-every", "4"], "splat")
    b = parse(Reconstruct, ["p", "--out", "r", "--test_every", "4"], "splat")
    assert a.test_every == b.test_every == 4


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS), ["--version"]])
def test_a_reader_that_stops_reading_ends_a_command_quietly(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """`splat convert --help | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        monkeypatch.setattr("sys.argv", ["splat", *arguments])
        try:
            code = entry()
        except SystemExit as e:  # rich and argparse end the program themselves
            code = int(e.code or 0)
            os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())
    assert code in (0, 1, 141) and capsys.readouterr().err == ""
