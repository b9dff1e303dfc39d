"""Our inference server beside its peers: `make bench-serving`.

Makes an environment for each peer (once, from benchmarks/serving/peers/NAME/requirements.txt), measures cell by cell, and
writes serving.json, serving.md and plots into docs/results/. Stopped, it goes on where it was; a cell that cannot be
measured is named with its reason, and the run goes on.

  python -m benchmarks.serving                     # everything: half an hour after the environments are there
  python -m benchmarks.serving --only json32 tail  # these cells, measured again
  python -m benchmarks.serving --quick             # short runs of one round, into the scratch folder
  python -m benchmarks.serving --report            # document and plots from what was measured
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.serving.contenders import ALL, make_environment
from benchmarks.serving.kept import Kept
from benchmarks.serving.measures import CELLS
from benchmarks.serving.measuring import Bench
from benchmarks.serving.processes import BenchError
from benchmarks.serving.report import write

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
QUICK_SCALE = 0.2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help=f"cells, or the beginnings of their names: {' '.join(CELLS)}")
    parser.add_argument("--peers", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--quick", action="store_true", help="a few minutes, to see that it works; into --scratch")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the document")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30.0, help="no cell is begun after this")
    parser.add_argument("--scratch", type=Path, default=Path(".bench/serving"), help="environments, nets, homes, logs")
    parser.add_argument("--torch-index", help="package index of torch's CPU build, where pip's own has another")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def environments(wanted: argparse.Namespace, kept: Kept, console: Console) -> list[str]:
    """The peers that can be measured; why the others cannot goes into the document."""
    there = []
    for name in wanted.peers:
        try:
            versions = make_environment(wanted.scratch, name, wanted.torch_index, console.print)
        except BenchError as error:
            console.print(f"[red]{name} is left out[/]: {error}")
            kept.left_out(name, str(error))
            continue
        kept.versions(name, versions)
        there.append(name)
    return there


def measure(wanted: argparse.Namespace, kept: Kept, console: Console) -> None:
    """Measure what is asked for, or what is not there yet."""
    bench = Bench(
        wanted.scratch,
        QUICK_SCALE if wanted.quick else 1.0,
        1 if wanted.quick else wanted.rounds,
        environments(wanted, kept, console),
        lambda line: console.print(f"  {line}", highlight=False, markup=False),
        wanted.quick,
        kept.cell,
    )
    began = time.monotonic()
    chosen = [name for name in CELLS if not wanted.only or any(name.startswith(only) for only in wanted.only)]
    for number, name in enumerate(chosen, 1):
        if not wanted.only and not kept.lacks(name):
            continue
        if time.monotonic() - began > 60 * wanted.minutes:
            console.print(f"{wanted.minutes:g} minutes are over: {name} and what follows are left for the next run")
            break
        console.print(f"[bold]{number}/{len(chosen)} {name}[/]: {CELLS[name].__doc__}")
        kept.measure(name, partial(CELLS[name], bench), bench.rounds, console)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by an exception, so that every server is ended
    wanted = arguments()
    wanted.scratch = wanted.scratch.absolute()  # servers run in folders of their own
    if wanted.quick:
        wanted.out = wanted.scratch / "quick"
    console = Console(width=160)
    kept = Kept(wanted.out / "serving.json", "make bench-serving" + (" ARGS=--quick" if wanted.quick else ""))
    if not wanted.report:
        measure(wanted, kept, console)
    write(kept, wanted.out)
    console.print(f"written: {wanted.out / 'serving.md'}")


if __name__ == "__main__":
    main()
