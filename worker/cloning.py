"""The child's work on a clone: the same `graftery.cloning.clone` call that a researcher makes, files in and out."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from graftery.cloning import Cloned, clone
from graftery.cloning.networks import whole
from graftery.data.samples import SampleSet
from graftery.module import ModuleFile, verify
from graftery.spec.manifest import json_of
from graftery.spec.recipes import CloneRecipe
from worker import files
from worker.certifying import Certifier
from worker.child import Reporter
from worker.device import use
from worker.reports import FileOf, Order


def run(order: Order, reporter: Reporter) -> dict[str, Any]:
    """Make the clone that the order asks for; the result is what `worker.clones` makes rows of."""
    device = use(order.device, order.threads)
    certifier = Certifier(order, device, reporter)
    try:
        certifier.before()
        learn = partial(
            clone,
            _network(order, "source"),
            _network(order, "target"),
            SampleSet.load(order.files["samples"]),
            order.request["want"],
            recipe=CloneRecipe.model_validate(order.recipe),
            evaluate_on=files.samples(order, "evaluate_on"),
            source_evaluate_on=files.samples(order, "source_evaluate_on"),
            device=device,
            progress=lambda progress: reporter.advanced(asdict(progress)),
            checkpoint=lambda state: reporter.keep(state, order.scratch),
        )
        made = files.resumed(order, lambda checkpoint: learn(resume=checkpoint))
        path = Path(order.scratch) / "clone.safetensors"
        result = _result(made, path, order)
        return {**result, "certified": certifier.after(_attached(order, path))}
    finally:
        # What a job leaves in torch's cache is not there for the next process on this GPU.
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _members(order: Order, network: str) -> dict[str, str]:
    """The paths of a network's modules, by role."""
    return {
        role.removeprefix(f"{network}."): path for role, path in order.files.items() if role.startswith(f"{network}.")
    }


def _network(order: Order, network: str) -> ModuleFile:
    return whole({role: ModuleFile.load(path, order.limits) for role, path in _members(order, network).items()})


def _attached(order: Order, clone: Path) -> dict[str, FileOf] | None:
    """The modules of the target with the clone, where it is to be published."""
    if "network" not in order.request:
        return None
    target = _members(order, "target")
    place = sum(role.startswith("clone.") for role in target)
    return {role: FileOf(path=path) for role, path in {**target, f"clone.{place}": str(clone)}.items()}


def _result(made: Cloned, path: Path, order: Order) -> dict[str, Any]:
    made.clone.save(path)
    return {
        "clone": str(path),
        "manifest": json_of(made.clone.manifest),
        "facts": json_of(verify(path, order.limits)),
        "metrics": made.metrics,
    }
