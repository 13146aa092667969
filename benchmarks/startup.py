"""Startup: `deitkit --help` against `python -c "import typer"`, paired on the same machine. Promised: less than 3 x.

    python -m benchmarks.startup [--pairs 20] [--json]

A pair runs both once, in alternating order, so that a slow moment of the machine hits both; the ratio is that of the
medians. Measures the processor time of processes from start to exit, with stdout to a pipe.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass

LIMIT = 3.0
TYPER = (sys.executable, "-c", "import typer")
HELP = (sys.executable, "-m", "deitkit", "--help")


@dataclass(frozen=True)
class Startup:
    """Medians in seconds over all pairs, and quartiles of the pairs' own ratios."""

    pairs: int
    import_typer_s: float
    deitkit_help_s: float
    ratio: float
    ratio_quartiles: tuple[float, float]


def seconds(command: tuple[str, ...]) -> float:
    """Processor time of one process: what other processes take meanwhile is not in it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(*, pairs: int) -> Startup:
    """Run both commands `pairs` times, after one unmeasured run each that fills the caches."""
    for command in (TYPER, HELP):
        seconds(command)
    typer, ours = [], []
    for pair in range(pairs):
        for command in (TYPER, HELP) if pair % 2 == 0 else (HELP, TYPER):
            (typer if command is TYPER else ours).append(seconds(command))
    ratios = sorted(b / a for a, b in zip(typer, ours, strict=True))
    quartiles = statistics.quantiles(ratios, n=4) if pairs > 1 else [ratios[0]] * 3
    medians = statistics.median(typer), statistics.median(ours)
    return Startup(pairs, *medians, medians[1] / medians[0], (quartiles[0], quartiles[2]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Startup time of the command line.")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(pairs=options.pairs)
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        low, high = found.ratio_quartiles
        print(f"{'python -c import typer':<24}{found.import_typer_s * 1e3:8.1f} ms   median of {found.pairs}")
        print(f"{'deitkit --help':<24}{found.deitkit_help_s * 1e3:8.1f} ms")
        print(f"{'ratio':<24}{found.ratio:8.2f} x    quartiles {low:.2f} to {high:.2f}, promised below {LIMIT:g}")
    return 0 if found.ratio < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
