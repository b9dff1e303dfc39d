"""The main job, end to end, over HTTP, on the 1797 handwritten digits that scikit-learn ships.

    python -m examples.demo            # stays up until Ctrl-C
    python -m examples.demo --exit     # ends by itself

Teams train nets for "is it digit c?"; a generic net's task module is shared by its digits. The service transplants
other digits into it: with 0 labels by back-distillation, with 10 and 100 labels by direct-learn for comparison.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples import digits
from examples.demo import teams as world
from examples.demo.service import service
from graftery import Client
from graftery.spec.wire import JobEvent, JobOut

console = Console(soft_wrap=True)
DIRECT = {"objectives": {"direct": 1.0}, "sources": ["samples"]}
RECIPES: dict[str, dict[str, Any]] = {
    "direct-learn, 10 labels": {**DIRECT, "labels": 10},
    "direct-learn, 100 labels": {**DIRECT, "labels": 100},
    "back-distillation, 0 labels": {},
}
Scores = dict[str, dict[int, float]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("--exit", action="store_true", help="end by itself instead of staying up until Ctrl-C")
    parser.add_argument("--port", type=int, default=8080, help="of the service; another one where it is taken")
    parser.add_argument("--seed", type=int, default=0, help="of the nets and the transplants")
    parser.add_argument("--home", type=Path, help="where the service keeps its data; by default a folder that goes")
    return parser.parse_args()


def answers(client: Client, network: str, x: Any) -> np.ndarray:
    """Logits [n] of a served network, asked through /v2."""
    logits = client.infer(network, x.numpy())
    assert isinstance(logits, np.ndarray)
    return logits[:, 0]


def balanced(client: Client, network: str, teams: world.Teams, digit: int) -> float:
    """Balanced accuracy on held-out digits: the mean of the shares of right yes and right no."""
    yes = answers(client, network, teams.x_test) > 0
    wanted = (teams.test_digits == digit).numpy()
    return float((yes[wanted].mean() + (~yes[~wanted]).mean()) / 2)


def request_all(client: Client, teams: world.Teams) -> dict[tuple[str, int], JobOut]:
    """Ask for every transplant at once; they wait in the queue for the worker."""
    jobs = {}
    for digit in teams.teachers:
        word = world.WORDS[digit]
        labelled = digits.one_against_rest(digit, "train")
        assert labelled.y is not None
        client.push_samples(f"{word}-labelled", labelled.x, labelled.y)
        for row, recipe in RECIPES.items():
            samples = f"{word}-labelled" if recipe else None
            name = f"{word}-in-digits-{recipe.get('labels', 0)}"
            jobs[row, digit] = client.transplant(word, world.SHARED_TASK, name=name, recipe=recipe, samples=samples)
    return jobs


def follow(client: Client, jobs: Mapping[tuple[str, int], JobOut]) -> None:
    """Wait for the jobs with a live bar for each: first the inversion's steps, then the training's."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        for (row, digit), job in jobs.items():
            bar = bars.add_task(f"{world.WORDS[digit]}: {row}", total=None)

            def show(event: JobEvent, bar: TaskID = bar) -> None:
                if event.type == "progress" and event.data["phase"] != "evaluate":
                    bars.update(bar, completed=event.data["step"], total=event.data["steps"])

            client.wait(job, progress=show)
            bars.stop_task(bar)


def measure(client: Client, teams: world.Teams, jobs: Mapping[tuple[str, int], JobOut]) -> Scores:
    """Ask every composed network about the held-out digits."""
    scores: Scores = {row: {} for row in ("teacher", "identity adapter", *RECIPES)}
    for digit in teams.teachers:
        word = world.WORDS[digit]
        client.compose(f"{word}-in-digits-identity", word, world.SHARED_TASK)
        scores["teacher"][digit] = balanced(client, f"{word}-is-teacher", teams, digit)
        scores["identity adapter"][digit] = balanced(client, f"{word}-in-digits-identity", teams, digit)
    for (row, digit), job in jobs.items():
        scores[row][digit] = balanced(client, job.request["name"], teams, digit)
    return scores


def table(scores: Scores, targets: list[int], count: int) -> Table:
    drawn = Table(title=f"Balanced accuracy on {count} held-out digits, answered by the service")
    drawn.add_column("")
    for digit in targets:
        drawn.add_column(f"is it {digit}?", justify="right")
    drawn.add_column("mean", justify="right")
    for row, by_digit in scores.items():
        values = [by_digit[digit] for digit in targets]
        drawn.add_row(row, *(f"{value:.3f}" for value in values), f"{np.mean(values):.3f}")
    return drawn


def main_job(client: Client, seed: int) -> None:
    targets = list(digits.TARGETS)
    console.print(f"training a generic net on the digits {digits.GENERIC} and a teacher for each of {targets} ...")
    teams = world.train(targets, seed)
    console.print("uploading: the generic net in parts, the teachers whole; the service cuts and verifies them ...")
    world.push_generic(client, teams)
    for digit in targets:
        world.push_teacher(client, teams, digit)
    before = [answers(client, name, teams.x_test) for name in teams.known]
    jobs = request_all(client, teams)
    follow(client, jobs)
    console.print(table(measure(client, teams, jobs), targets, len(teams.x_test)))
    after = [answers(client, name, teams.x_test) for name in teams.known]
    same = all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))
    console.print(
        f"the {len(teams.known)} networks that were served before answer {'bitwise the same' if same else 'DIFFERENTLY'}"
    )
    if not same:
        raise SystemExit("a transplant has changed what was learned before")


def stay(url: str) -> None:
    name = f"{world.WORDS[digits.TARGETS[0]]}-in-digits-0"
    console.print(f"\nThe service stays up at {url} until Ctrl-C. For example:")
    console.print(
        f"  graftery inspect {name} --url {url}\n  curl {url}/v2/models/{name}\n  {url}/docs", highlight=False
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("ending ...")


def main() -> None:
    options = arguments()
    # An end by SIGTERM is an end in order, too: the service must not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    torch.set_num_threads(1)  # the nets are tiny: threads would only wait for each other
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="graftery-demo-") as folder,
        service(options.home or Path(folder), options.port) as url,
        Client(url) as client,
    ):
        console.print(f"the service is at {url}", highlight=False)
        main_job(client, options.seed)
        console.print(f"done in {time.monotonic() - started:.0f} s")
        if not options.exit:
            stay(url)


if __name__ == "__main__":
    main()
