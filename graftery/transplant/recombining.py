"""How good a network is that was composed of modules at hand, beside the network that its task module comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from graftery.data.samples import SampleSet
from graftery.errors import SamplesRefused, refusing
from graftery.module import ModuleFile
from graftery.spec.fit import output_of
from graftery.spec.groups import normalised
from graftery.spec.limits import Limits
from graftery.transplant.evaluation import judge
from graftery.transplant.nets import compose


def recombination(
    category: ModuleFile,
    task: ModuleFile,
    samples: SampleSet,
    *,
    adapter: ModuleFile | None = None,
    own: ModuleFile | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure gS(f(x)), or gS(h(f(x))), on labelled samples; and gS on its own extractor.

    Args:
        category: f.
        task: gS.
        adapter: h.
        own: the category module that gS was trained on; None: not known.
        seed: of the resamples.

    Returns:
        JSON: `recombined` and `own` with their intervals (`graftery.transplant.evaluation.judge`); of classification also `chance`,
        the share of the most frequent class, and `normalised` (`graftery.spec.groups`). None where it is not known,
        or, of the last, gS on its own extractor is not above chance.

    Raises:
        Misfit: modules that do not fit.
        SamplesRefused: `samples_invalid`; samples that the network does not take, or labels that do not fit its output.
    """
    meaning = output_of(task.manifest)
    nets = {
        "recombined": compose(category, adapter, task),
        "own": None if own is None else compose(own, None, task),
    }
    # A size that is free in f's input may be one that another layer does not take.
    with refusing(lambda why: SamplesRefused(f"the network does not take these samples: {why}")):
        found = judge(nets, samples, meaning, seed=seed, pair=("recombined", "own"))
    chance = share = None
    if meaning.semantics == "classification" and samples.y is not None:
        chance = float(torch.bincount(samples.y.long()).max()) / len(samples)
        if own is not None:
            share = normalised(found["recombined"]["accuracy"], found["own"]["accuracy"], chance, len(samples))
    return {**found, "chance": chance, "normalised": share}


def answer(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """An action of the child that makes pre-checks.

    Args:
        request: `path` is f's file; `files` has gS as `task`, the labelled samples as `samples`, and perhaps `adapter` and `own`.
    """
    paths = dict(request["files"])
    samples = SampleSet.load(paths.pop("samples"))
    files = {role: ModuleFile.load(path, limits) for role, path in paths.items()}
    category = ModuleFile.load(request["path"], limits)
    return recombination(category, files["task"], samples, adapter=files.get("adapter"), own=files.get("own"))
