"""Engines: every task once, after those it waits for, within cores and memory, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splat.bench.engines import Local, Needs, Outcome, Task, open_engine
from splat.bench.engines.process import TaskProcess, copy_folders
from splat.bench.engines.shipping import assignment, fingerprint_of, markers, pack, run_assigned, take, unpack
from splat.core import machine
from splat.core.errors import SplatError

SLEEP = """
import os, pathlib, sys, time
p = pathlib.Path(sys.argv[1])
p.mkdir(parents=True, exist_ok=True)
begin = time.time()
(p / "begun").touch()
time.sleep(float(sys.argv[2]))
while len(list(p.parent.glob("*/begun"))) < int(sys.argv[3]) and time.time() - begin < 60:
    time.sleep(0.02)
(p / "times").write_text(f"{begin} {time.time()} {os.environ.get('SPLAT_CORES')}")
"""
"""Arguments: a folder; seconds that it takes; how many must have begun before it ends, so that a busy machine has the
time to start them."""


def task(folder: Path, name: str, code: str = SLEEP, *arguments: str, **settings: object) -> Task:
    argv = (sys.executable, "-S", "-c", code, str(folder / name), *(arguments or ("0.4", "1")))
    return Task(name, argv, folder / name, folder / f"{name}.log", **settings)  # type: ignore[arg-type]


def run(engine: object, tasks: list[Task]) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    engine(tasks, lambda t, o: found.update({t.name: o}))  # type: ignore[operator]
    return found


def at_once(folder: Path, tasks: list[Task]) -> int:
    """How many ran at the same time, at most."""
    spans = [tuple(map(float, (folder / t.name / "times").read_text().split()[:2])) for t in tasks]
    return max(sum(b <= begin < e for b, e in spans) for begin, _ in spans)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cores", lambda: 8)
    monkeypatch.delenv("SPLAT_CORES", raising=False)


@pytest.mark.usefixtures("eight_cores")
def test_a_pool_runs_as_many_as_were_asked_for_each_with_its_share_of_the_cores(tmp_path: Path) -> None:
    tasks = [task(tmp_path, str(i), SLEEP, "0.3", "2", needs=Needs(memory_mb=10.0)) for i in range(5)]
    found = run(Local(workers=2), tasks)
    assert {o.code for o in found.values()} == {0} and len(found) == 5
    assert at_once(tmp_path, tasks) == 2
    assert {(tmp_path / t.name / "times").read_text().split()[2] for t in tasks} == {"4"}


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("megabytes,together", [(400.0, 2), (700.0, 1), (2000.0, 1), (None, 1)])
def test_a_pool_keeps_to_its_memory(tmp_path: Path, megabytes: float | None, together: int) -> None:
    """1,000 MB: two of 400 fit, two of 700 do not; one that is too large, or of unknown need, runs alone."""
    arguments = (SLEEP, "0.15", str(together))
    tasks = [task(tmp_path, str(i), *arguments, needs=Needs(memory_mb=megabytes)) for i in range(3)]
    run(Local(workers=4, memory_gb=1000 * 2**20 / 1e9), tasks)
    assert at_once(tmp_path, tasks) == together


def test_a_pool_has_no_more_workers_than_cores_and_one_where_they_are_few(tmp_path: Path) -> None:
    few = [task(tmp_path, str(i), SLEEP, "0.15", "1", needs=Needs(memory_mb=1.0)) for i in range(3)]
    os.environ["SPLAT_CORES"] = "1"
    try:
        run(Local(workers=3), few)
        assert at_once(tmp_path, few) == 1
    finally:
        del os.environ["SPLAT_CORES"]


def test_a_task_starts_after_those_it_waits_for_and_from_what_they_left(tmp_path: Path) -> None:
    first = task(tmp_path, "first")
    then = task(
        tmp_path,
        "then",
        "import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'found').write_text(open(sys.argv[1] + '/a/times').read())",
        after=("first",),
        copies=((tmp_path / "first", tmp_path / "then" / "a"),),
    )
    found = run(Local(), [then, first])
    assert [found[n].code for n in ("first", "then")] == [0, 0]
    assert (tmp_path / "then" / "found").read_text() == (tmp_path / "first" / "times").read_text()


def test_what_waits_for_a_failure_fails_with_its_sentence_and_is_not_run(tmp_path: Path) -> None:
    bad = task(tmp_path, "bad", "import sys; sys.exit('splat: no photos: give some.')")
    found = run(Local(), [bad, task(tmp_path, "then", after=("bad",)), task(tmp_path, "last", after=("then",))])
    assert {o.message for o in found.values()} == {"no photos: give some."}
    assert not (tmp_path / "then").exists() and not (tmp_path / "last").exists()


@pytest.mark.parametrize("after,said", [({"a": ("b",), "b": ("a",)}, "wait for each other"), ({"a": ("x",)}, "x")])
def test_tasks_that_could_never_start_are_named(tmp_path: Path, after: dict, said: str) -> None:
    with pytest.raises(SplatError, match=said):
        run(Local(), [task(tmp_path, n, after=after.get(n, ())) for n in "ab"])


POOL = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from test_engines import *
import splat.core.machine
splat.core.machine._cores = lambda: 8
saves = "import pathlib, signal, sys, time; p = pathlib.Path(sys.argv[1]); p.mkdir()\\n"
saves += "def saved(*_): (p / 'saved').touch(); sys.exit(130)\\n"
saves += "signal.signal(signal.SIGTERM, saved); (p / 'started').touch(); time.sleep(60)"
root = Path({root!r})
tasks = [task(root, "quick", SLEEP, "0.1", "1", needs=Needs(memory_mb=1.0))]
tasks += [task(root, f"slow{{i}}", saves, needs=Needs(memory_mb=1.0)) for i in range(3)]
Local(workers=4)(tasks, lambda t, o: (root / (t.name + ".ended")).touch())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_stops_all_children_and_keeps_what_has_ended(tmp_path: Path, number: signal.Signals) -> None:
    """Killed outright it cannot stop them: the system tells them that it is gone."""
    from signals import takes_ctrl_c  # the script imports this file without the folder of that one

    script = POOL.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL, preexec_fn=takes_ctrl_c
    )
    wanted = [tmp_path / "quick.ended", *(tmp_path / f"slow{i}" / "started" for i in range(3))]
    wait_until(lambda: all(p.exists() for p in wanted), 600)
    process.send_signal(number)
    process.wait(120)
    wait_until(lambda: all((tmp_path / f"slow{i}" / "saved").exists() for i in range(3)), 120)
    assert not list(tmp_path.glob("slow*.ended")), "what was stopped has not ended, so that it runs again"


def wait_until(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assigned(t: Task, marker: str, shared: bool = True) -> object:
    return assignment(t, marker, cores=1, limit_minutes=None, grace_seconds=5.0, shared=shared)


READS = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(exist_ok=True, parents=True); "
READS += "(p / 'result').write_text(pathlib.Path(sys.argv[2], 'photos', 'a.txt').read_text() + sys.argv[2])"


def test_nothing_is_read_from_another_machines_disk_unseen(tmp_path: Path) -> None:
    """A machine that sees the paths reads them; one that does not says what it lacks, and is given it; and so is one
    where something else lies at the same path."""
    source = tmp_path / "data"
    (source / "photos").mkdir(parents=True)
    (source / "photos" / "a.txt").write_text("one")
    t = task(tmp_path / "out", "cell", READS, str(source), inputs=(source,))
    with markers([t]) as marker:
        seen = run_assigned(assigned(t, marker))  # type: ignore[arg-type]
        assert seen.outcome is not None and seen.outcome.code == 0 and seen.files is None
        result = t.folder / "result"
        assert result.read_text() == f"one{source}"
        a = assigned(t, marker)
        (source / "photos" / "a.txt").write_text("other")
        assert run_assigned(a).missing == (source,)  # type: ignore[arg-type]
        (source / "photos" / "a.txt").write_text("one")
        far = assigned(t, marker, shared=False)
        assert set(run_assigned(far).missing) == {source, t.folder}  # type: ignore[arg-type]
        contents = {source: lambda: pack(source), t.folder: lambda: pack(t.folder)}
        back = run_assigned(far, contents)  # type: ignore[arg-type]
        assert back.outcome is not None and back.outcome.code == 0 and back.files is not None
        assert result.read_text() == f"one{source}", "nothing was written here yet"
        take(t, back)
    assert result.read_text().startswith("one") and str(source) not in result.read_text()
    assert not list((tmp_path / "out").glob(".asked-*"))


def test_folders_and_files_arrive_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("1")
    (tmp_path / "film.mp4").write_text("2")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "film.mp4")
    for name in ("a", "film.mp4"):
        unpack(pack(tmp_path / name), tmp_path / "there" / name)
        assert fingerprint_of(tmp_path / "there" / name) == fingerprint_of(tmp_path / name)
    assert not (tmp_path / "there" / "a" / "link").is_symlink()


def test_another_machine_says_what_it_lacks_beside_what_the_first_one_did(tmp_path: Path) -> None:
    """An attempt may run on a machine that sees less than the one before it."""
    source = tmp_path / "data"
    (source / "photos").mkdir(parents=True)
    t = task(tmp_path / "out", "cell", READS, str(source), inputs=(source,))
    t.folder.mkdir(parents=True)
    with markers([t]) as marker:
        far = assigned(t, marker, shared=False)
        lacks = run_assigned(far, {source: lambda: pack(source)})  # type: ignore[arg-type]
    assert lacks.outcome is None and lacks.missing == (t.folder,)


def test_what_was_cut_off_on_its_way_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("first", "second"):
        (tmp_path / "a" / name).write_bytes(os.urandom(100_000))
    there = tmp_path / "there" / "a"
    there.mkdir(parents=True)
    (there / "first").write_text("before")
    with pytest.raises(SplatError, match="did not arrive whole"):
        unpack(pack(tmp_path / "a")[:150_000], there)
    assert (there / "first").read_text() == "before"
    assert [p.name for p in there.parent.rglob("*")] == ["a", "first"], "nothing is left of it"


STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
path = pathlib.Path(sys.argv[1])
path.mkdir()
(path / "partial").write_text(str(child.pid))
(path / "partial").rename(path / "child")
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_task_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    t = task(tmp_path, "stubborn", STUBBORN)
    process = TaskProcess(t, grace_seconds=0.1)
    wait_until((t.folder / "child").exists, 120)
    process.ask()
    assert process.wait().code == -signal.SIGKILL
    status = Path("/proc", (t.folder / "child").read_text(), "status")

    def is_gone() -> bool:
        try:
            return "\nState:\tZ" in status.read_text()  # nobody has asked how it ended
        except OSError:
            return True

    wait_until(is_gone, 20)


def test_a_copy_that_a_lost_worker_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "poses").mkdir()
    (tmp_path / "poses" / "a").write_text("1")
    left = tmp_path / "run" / ".poses.partial-1"
    left.mkdir(parents=True)
    copies = ((tmp_path / "poses", tmp_path / "run" / "poses"),)
    copy_folders(Task("t", (), tmp_path / "run", tmp_path / "log", copies=copies))
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["poses"]
    assert (tmp_path / "run" / "poses" / "a").read_text() == "1"


@pytest.mark.parametrize("name,library", [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_library_is_one_sentence(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SplatError, match=rf'--engine {name} needs .*pip install "splat3d\[{name}\]"'):
        open_engine(name)  # type: ignore[arg-type]
