"""The child at a transplant: the same `graftery.transplant.transplant` call that a researcher makes, files in and out."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from graftery.module import verify
from graftery.spec.manifest import json_of
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import InversionCache, Transplant, transplant
from worker import files
from worker.certifying import Certifier
from worker.child import Reporter
from worker.device import use
from worker.reports import FileOf, Order


def run(order: Order, reporter: Reporter) -> dict[str, Any]:
    """Learn the adapter that the order asks for; the result is what `worker.publish` makes rows of."""
    device = use(order.device, order.threads)
    certifier = Certifier(order, device, reporter)
    kept = order.inversions
    cache = None if kept is None else InversionCache(kept.folder, kept.most_bytes, kept.free_bytes)
    try:
        certifier.before()
        learn = partial(
            transplant,
            files.module(order, "category"),
            files.module(order, "task"),
            teacher_task=files.module_or_none(order, "teacher_task"),
            samples=files.samples(order, "samples"),
            unlabelled=files.samples(order, "unlabelled"),
            evaluate_on=files.samples(order, "evaluate_on"),
            recipe=TransplantRecipe.model_validate(order.recipe),
            device=device,
            progress=lambda progress: reporter.advanced(asdict(progress)),
            checkpoint=lambda state: reporter.keep(state, order.scratch),
            checkpoint_s=order.checkpoint_s,
            inversions=cache,
        )
        made = files.resumed(order, lambda checkpoint: learn(resume=checkpoint))
        result = _result(made, Path(order.scratch) / "adapter.safetensors", order)
        if "inversion" in made.recipe.sources:
            result["inversion_kept"] = cache is not None and cache.taken > 0
        own = {"category": order.files["category"], "task": order.files["task"], "adapter": result["adapter"]}
        return {**result, "certified": certifier.after({role: FileOf(path=path) for role, path in own.items()})}
    finally:
        # What a job leaves in torch's cache is not there for the next process on this GPU.
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _result(made: Transplant, path: Path, order: Order) -> dict[str, Any]:
    made.adapter.save(path)
    return {
        "adapter": str(path),
        "manifest": json_of(made.adapter.manifest),
        "facts": json_of(verify(path, order.limits)),
        "metrics": made.metrics,
        "labels": made.recipe.labels or 0,
    }
