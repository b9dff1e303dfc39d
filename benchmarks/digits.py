"""Measure transplants on the handwritten digits: `make bench-digits` writes docs/results/digits.{json,md}.

Protocol, fixed before the first run on test digits: targets 3 and 8; the generic net knows the four lowest other digits;
seeds 0 to 4 seed nets, recipes and labelled subsets alike; balanced accuracy on 500 test digits at threshold 0. Recipes
were chosen on the validation split with the digits 5, 6, 7 and 9 as targets.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from examples import digits
from graftery.module import ModuleFile, cut, trace
from graftery.spec.manifest import OutputMeaning
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import transplant

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
DIRECT = {"objectives": {"direct": 1.0}}
METHODS: dict[str, dict[str, Any]] = {
    "direct-learn, 10 labels": {**DIRECT, "labels": 10},
    "direct-learn, 100 labels": {**DIRECT, "labels": 100},
    "pseudo-gradients, 0 labels": {"objectives": {"pseudo_gradient": 1.0}, "sources": ["noise"], "labels": 0},
    "distillation on noise, 0 labels": {"objectives": {"distillation": 4.0}, "sources": ["noise"], "labels": 0},
    "back-distillation on noise, 0 labels": {"sources": ["noise"], "labels": 0},
    "distillation alone, 0 labels": {"objectives": {"distillation": 4.0}, "labels": 0},
    "back-distillation, 0 labels (default)": {"labels": 0},
    "back-distillation, 10 labels (default)": {"labels": 10},
    "back-distillation, 100 labels (default)": {"labels": 100},
}
"""What is measured beside the teacher and the identity adapter: recipes, everything unnamed at its default."""


def modules(net: digits.Net) -> tuple[ModuleFile, ModuleFile]:
    """f and g of a net, as files."""
    outputs = {"is": OutputMeaning(semantics="classification")}
    whole = trace(net, torch.zeros(2, 1, 8, 8), outputs=outputs, preprocessing=digits.PREPROCESSING)
    category, tasks = cut(whole, digits.CUT)
    return category, tasks["is"]


def rows(target: int, seed: int, split: digits.Split) -> Iterator[dict[str, Any]]:
    """One row a method: balanced accuracy and seconds."""
    generic = digits.train_generic(seed=seed)
    _, shared = modules(generic.net(digits.GENERIC[0]))
    category, own = modules(digits.train_teacher(target, seed=seed))
    train, held_out = digits.one_against_rest(target, "train"), digits.one_against_rest(target, split)
    for number, (method, fields) in enumerate(METHODS.items()):
        recipe = TransplantRecipe.model_validate({"seed": seed, **fields})
        began_s = time.perf_counter()
        samples = train if recipe.labels else None
        done = transplant(category, shared, teacher_task=own, recipe=recipe, samples=samples, evaluate_on=held_out)
        metrics = done.metrics
        row = {"target": target, "seed": seed, "seconds": time.perf_counter() - began_s}
        if number == 0:
            yield from ({**row, "method": name, "seconds": 0.0, **metrics[name]} for name in ("teacher", "identity"))
        yield {**row, "method": method, **metrics["adapter"], "agreement": metrics["agreement"]["kappa"]}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "accelerator": "none",
        "processor": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def table(measured: list[dict[str, Any]]) -> str:
    """Markdown: mean and spread over seeds, for each target and both."""
    targets = sorted({row["target"] for row in measured})
    head = ["method", *(f"digit {target}" for target in targets), "mean", "least", "mean AUC", "seconds"]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for method in dict.fromkeys(row["method"] for row in measured):
        ours = [row for row in measured if row["method"] == method]
        cells = [_spread([r["balanced_accuracy"] for r in ours if r["target"] == target]) for target in targets]
        every = [row["balanced_accuracy"] for row in ours]
        auc = statistics.mean(row["auc"] for row in ours)
        seconds = statistics.median(row["seconds"] for row in ours)
        cells += [
            f"{statistics.mean(every):.3f}",
            f"{min(every):.3f}",
            f"{auc:.4f}",
            f"{seconds:.1f}" if seconds else "-",
        ]
        lines.append(" | ".join([method, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def document(result: dict[str, Any]) -> str:
    """The results as a page."""
    on = result["machine"]
    seeds = ", ".join(map(str, result["seeds"]))
    return f"""# Transplants on handwritten digits

Written by `make bench-digits`; the figures of every run are in digits.json.

Balanced accuracy of "is it digit c?" on {result["split_size"]} {result["split"]} digits at threshold 0: mean and standard
deviation over the seeds {seeds}; a seed is of the nets, the recipe and the labelled subset alike. The generic net knows
the digits {", ".join(map(str, digits.GENERIC))}. Median seconds of a transplant, with tracing and measuring, on one thread of a
machine with {on["cores"]} cores and no accelerator, which may have had other work; Python {on["python"]}, torch {on["torch"]}.

{table(result["rows"])}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--targets", type=int, nargs="+", default=list(digits.TARGETS))
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    measured: list[dict[str, Any]] = []
    for seed in given.seeds:
        for target in given.targets:
            for row in rows(target, seed, given.split):
                print(f"seed {seed} digit {target} {row['method']:42} {row['balanced_accuracy']:.3f}", flush=True)
                measured.append(row)
    sizes = {"split": given.split, "split_size": digits.SIZES[given.split]}
    result = {"seeds": given.seeds, **sizes, "machine": machine(), "rows": measured}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "digits.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / "digits.md").write_text(document(result))


if __name__ == "__main__":
    main()
