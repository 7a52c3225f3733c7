"""What a user meets before anything runs: help, versions, mistakes."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splat import __version__
from splat.__main__ import COMMANDS, main


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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_table_explains_itself(command: str) -> None:
    done = _run(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert main(["reconstrct"]) == 2
    assert "splat reconstruct" in capsys.readouterr().err


def test_a_missing_folder_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = _run("reconstruct", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"), "--quiet")
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_preset_sets_defaults_and_explicit_flags_win_over_it() -> None:
    from splat.cli import parse
    from splat.commands.reconstruct import Reconstruct
    from splat.methods.presets import PRESETS

    plain = parse(Reconstruct, ["p", "--out", "r", "--preset", "fast"], "splat")
    assert (plain.iterations, plain.max_resolution) == (PRESETS["fast"].iterations, PRESETS["fast"].max_resolution)
    tuned = parse(Reconstruct, ["p", "--out", "r", "--preset=fast", "--max_resolution", "100"], "splat")
    assert tuned.max_resolution == 100 and tuned.iterations == PRESETS["fast"].iterations
    assert "max_resolution" in tuned.explicit_flags and "iterations" not in tuned.explicit_flags


def test_flags_may_be_written_with_dashes_or_underscores() -> None:
    from splat.cli import parse
    from splat.commands.reconstruct import Reconstruct

    a = parse(Reconstruct, ["p", "--out", "r", "--test-every", "4"], "splat")
    b = parse(Reconstruct, ["p", "--out", "r", "--test_every", "4"], "splat")
    assert a.test_every == b.test_every == 4
