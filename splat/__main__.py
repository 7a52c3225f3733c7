"""Entry point. `splat --help` and `--version` answer from a static table without importing anything heavy."""

from __future__ import annotations

import os
import sys

from splat import __version__

COMMANDS = {
    "reconstruct": (
        "splat.commands.reconstruct:Reconstruct",
        "photos, a video or a dataset -> a splat, renders, a report",
    ),
    "init": ("splat.commands.init:InitOnly", "the first Gaussians alone, as splat, point cloud and COLMAP points"),
    "view": ("splat.commands.view:ViewScene", "walk through a run or a splat file in a browser"),
    "render": ("splat.commands.render:RenderPath", "draw a finished run: test views, an orbit, a path; PNG and MP4"),
    "export": ("splat.commands.export:Export", "write a finished run, or a splat file, in other forms"),
    "convert": ("splat.commands.convert:Convert", "one splat file into another format"),
    "evaluate": ("splat.commands.evaluate:Evaluate", "measure a finished run again on its held-out photos"),
    "demo": ("splat.commands.demo:Demo", "make the photos of a room, forget their poses, reconstruct them"),
    "program": ("splat.commands.program:Program", "another program's splat on our poses, measured by our evaluation"),
    "bench": ("splat.commands.bench:Bench", "run a table of scenes and methods, resumable"),
    "doctor": ("splat.commands.doctor:Doctor", "what this machine has, what is missing, and the fix"),
}


def usage() -> str:
    rows = "\n".join(f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items())
    return (
        "splat: photos in, a scene you can walk through out\n\n"
        "usage: splat COMMAND [options]      splat COMMAND --help\n\n"
        f"{rows}\n\n"
        "start with: splat reconstruct PHOTOS --out RUN      without photos: splat demo\n"
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 2 a mistake with its fix, 130 interrupted and saved)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(usage(), end="")
        return 0
    if argv[0] in {"-V", "--version"}:
        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(argv[0], COMMANDS, 1)
        hint = f"did you mean `splat {close[0]}`?" if close else "`splat --help` lists them."
        print(f"splat: there is no command {argv[0]!r}: {hint}", file=sys.stderr)
        return 2
    # Torch's threads spin while they wait and would take the cores from the kernels' own pool.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from splat.cli import run

        return run(argv[0], COMMANDS[argv[0]][0], argv[1:])
    except KeyboardInterrupt:  # while modules are imported: nothing has begun
        print("splat: stopped.", file=sys.stderr)
        return 130
    except (ImportError, MemoryError) as e:
        from splat.core.machine import is_out_of_memory

        if not is_out_of_memory(e):
            raise
        print("splat: out of memory while it starts: close other programs, or raise the limit.", file=sys.stderr)
        return 2


def entry() -> int:
    """`main` for a shell: who reads only the beginning of what is printed (`splat --help | head`) ends it quietly."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to write at exit
        return 141  # what a shell sees of a program that SIGPIPE ended
    return code


if __name__ == "__main__":
    sys.exit(entry())
