"""Predicted and real peak memory of runs, by stage: `python scripts/memory_forecast.py RUN ...` prints a table of runs
that are finished; `--photos DATA [flags of splat reconstruct]` makes one first (in RUN, which must be the only one),
`--ulimit GB` with that much address space.

What is predicted and what each stage filled stand in `log.jsonl` of every run.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

STAGES = ("ingest", "poses", "init", "train", "evaluate", "export")


def read_log(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Predicted and real peak in MB of each stage of the last command that worked in a run folder."""
    predicted: dict[str, float] = {}
    real: dict[str, float] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record.get("kind") == "forecast":
            predicted, real = record["mb"], {k: v for k, v in real.items() if k == "ingest"}
        elif record.get("kind") == "memory":
            real[record["stage"]] = record["peak_mb"]
    return predicted, real


def table(runs: list[Path]) -> str:
    """A row a run: predicted / real MB of each stage, and of the whole with their ratio."""
    rows = ["| run | " + " | ".join(STAGES) + " | whole | ratio |", "|---" * (len(STAGES) + 3) + "|"]
    for run in runs:
        predicted, real = read_log(run / "log.jsonl")
        known = [s for s in STAGES if s in predicted and s in real]
        if not known:
            rows.append(f"| {run.name} | no forecast and peaks in its log |")
            continue
        cells = [f"{predicted[s]:.0f} / {real[s]:.0f}" if s in known else "-" for s in STAGES]
        whole = max(predicted.values()), max(real.values())
        rows.append(
            f"| {run.name} | {' | '.join(cells)} | {whole[0]:.0f} / {whole[1]:.0f} | {whole[0] / whole[1]:.2f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--ulimit", type=float)
    given, flags = parser.parse_known_args()
    if given.photos is not None:
        (run,) = given.runs
        command = [sys.executable, "-m", "splat", "reconstruct", str(given.photos), "--out", str(run), *flags]
        limit = None if given.ulimit is None else int(given.ulimit * 1e9)

        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        code = subprocess.run(command, preexec_fn=limited, check=False).returncode
        if code:
            sys.exit(code)
    print(table(given.runs))


if __name__ == "__main__":
    main()
