"""The registry under load: `make bench-registry`.

Starts a PostgreSQL and a Redis of its own, makes MLflow's environment (once, from
benchmarks/registry/peers/mlflow/requirements.txt), measures cell by cell, and writes registry.json, registry.md and plots into
docs/results/. Stopped, it goes on where it was; a cell that cannot be measured is named with its reason.

  python -m benchmarks.registry                  # everything
  python -m benchmarks.registry --only upload    # these cells, measured again
  python -m benchmarks.registry --quick          # short runs of one round, into the scratch folder
  python -m benchmarks.registry --report         # document and plots from what was measured
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.registry import backing, peer
from benchmarks.registry.jobs import jobs
from benchmarks.registry.listeners import listeners
from benchmarks.registry.measuring import Bench
from benchmarks.registry.metadata import metadata
from benchmarks.registry.report import write
from benchmarks.registry.scaling import postgresql, sqlite
from benchmarks.registry.upload import upload
from benchmarks.serving.kept import Kept
from benchmarks.serving.processes import BenchError

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
QUICK_SCALE = 0.3
PACKAGES = ("graftery", "sqlalchemy", "psycopg", "fastapi", "starlette", "uvicorn", "celery", "redis", "sse-starlette")
CELLS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "upload": upload,
    "metadata": metadata,
    "sqlite": sqlite,
    "postgresql": postgresql,
    "listeners": listeners,
    "jobs": jobs,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "benchmarks.registry", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(CELLS), help="measure these again")
    parser.add_argument("--quick", action="store_true", help="a few minutes, to see that it works; into --scratch")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the document")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path(".bench/registry"), help="environment, homes, logs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def measure(wanted: argparse.Namespace, kept: Kept, console: Console) -> None:
    """Measure what is asked for, or what is not there yet."""
    again = wanted.only or [name for name in CELLS if kept.lacks(name)]
    if not again:
        return
    if "metadata" in again:
        _peer(wanted, kept, console)
    with backing.postgresql(wanted.scratch) as server, backing.broker(wanted.scratch) as broker:
        kept.versions("PostgreSQL", backing.version_of(server))
        scale, rounds = (QUICK_SCALE, 1) if wanted.quick else (1.0, wanted.rounds)
        bench = Bench(wanted.scratch, scale, rounds, server, broker, _say(console), wanted.quick)
        for name in again:
            console.print(f"[bold]{name}[/]: {CELLS[name].__doc__}")
            kept.measure(name, partial(CELLS[name], bench), bench.rounds, console)
            shutil.rmtree(wanted.scratch / "homes", ignore_errors=True)


def _say(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(f"  {line}", highlight=False, markup=False)


def _peer(wanted: argparse.Namespace, kept: Kept, console: Console) -> None:
    try:
        kept.versions("mlflow", peer.make_environment(wanted.scratch, console.print))
    except BenchError as error:
        console.print(f"MLflow cannot be installed: {error}", markup=False)
        kept.left_out("mlflow", str(error))


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by an exception, so that every server is ended
    wanted = arguments()
    wanted.scratch = wanted.scratch.absolute()  # servers run in folders of their own
    if wanted.quick:
        wanted.out = wanted.scratch / "quick"
    console = Console(width=160)
    kept = Kept(
        wanted.out / "registry.json", "make bench-registry" + (" ARGS=--quick" if wanted.quick else ""), PACKAGES
    )
    if not wanted.report:
        measure(wanted, kept, console)
    write(kept, wanted.out)
    console.print(f"written: {wanted.out / 'registry.md'}")


if __name__ == "__main__":
    main()
