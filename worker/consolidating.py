"""The child at a consolidation: the same `graftery.consolidate` call that a researcher makes, files in and out."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from graftery.consolidate import Cell, Consolidated, consolidate_category, consolidate_task
from graftery.module import ModuleFile, verify
from graftery.spec.manifest import json_of
from graftery.spec.recipes import ConsolidateRecipe
from worker import files
from worker.certifying import Certifier
from worker.child import Reporter
from worker.device import use
from worker.reports import Order


def run(order: Order, reporter: Reporter) -> dict[str, Any]:
    """Let the module that the order names learn on; the result is what `worker.consolidations` makes rows of."""
    device = use(order.device, order.threads)
    certifier = Certifier(order, device, reporter)
    kind = order.request["kind"]
    try:
        certifier.before()
        learn = partial(
            consolidate_task if kind == "task" else consolidate_category,
            files.module(order, kind),
            [_cell(order, index, told) for index, told in enumerate(order.request["cells"])],
            ConsolidateRecipe.model_validate(order.recipe),
            device=device,
            progress=lambda progress: reporter.advanced(asdict(progress)),
            checkpoint=lambda state: reporter.keep(state, order.scratch),
            checkpoint_s=order.checkpoint_s,
        )
        made = files.resumed(order, lambda checkpoint: learn(resume=checkpoint))
        return {**_result(made, order), "certified": certifier.after(None)}
    finally:
        # What a job leaves in torch's cache is not there for the next process on this GPU.
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _cell(order: Order, index: int, told: dict[str, str]) -> Cell:
    place = f"cell.{index}"
    return Cell(
        name=name_of(told),
        category=files.module(order, f"{place}.network.category"),
        task=files.module(order, f"{place}.network.task"),
        adapter=files.module_or_none(order, f"{place}.network.adapter"),
        teacher_task=files.module_or_none(order, f"{place}.teacher_task"),
        samples=files.samples(order, f"{place}.samples"),
        unlabelled=files.samples(order, f"{place}.unlabelled"),
        evaluate_on=files.samples(order, f"{place}.evaluate_on"),
    )


def name_of(told: dict[str, str]) -> str:
    """Of a cell: `cat x animals-is`."""
    return f"{told['category']} x {told['task']}"


def _result(made: Consolidated, order: Order) -> dict[str, Any]:
    scratch = Path(order.scratch)
    adapters = {
        str(index): _file(made.adapters[name], scratch / f"adapter-{index}.safetensors", order)
        for index, told in enumerate(order.request["cells"])
        if (name := name_of(told)) in made.adapters
    }
    return {
        "module": None if made.unchanged else _file(made.module, scratch / "module.safetensors", order),
        "adapters": adapters,
        "reports": [json_of(report) for report in made.reports],
        "unchanged": made.unchanged,
        "steps": made.steps,
    }


def _file(file: ModuleFile, path: Path, order: Order) -> dict[str, Any]:
    file.save(path)
    return {"path": str(path), "manifest": json_of(file.manifest), "facts": json_of(verify(path, order.limits))}
