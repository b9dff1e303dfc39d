"""Whether a module is what it says: trained against this group. With the group's own images, where it has some; and the group itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from graftery.compat import losses
from graftery.compat.groups import (
    CHECK_FEATURES,
    CHECK_X,
    CHECK_Y,
    CHECKED,
    INITIAL,
    Group,
    a_few,
    check_methods,
    checks,
)
from graftery.compat.recombination import chance_of, class_ids, through
from graftery.data import SampleSet
from graftery.errors import Misfit, ModuleFileError, SamplesRefused, TrainingFailed, WeightsRefused, refusing
from graftery.module import ModuleFile
from graftery.module.meaning import COMMON, ROTATION, TURNS
from graftery.spec.fit import fits, output_of, say
from graftery.spec.groups import above, group_of
from graftery.spec.manifest import TensorSpec

WORK = 2**38
"""Multiplications and additions that a head's images may take: some seconds of a processor, of the verifier's limit."""
FEWEST = 64
"""Images at least, where the group has them."""


@dataclass(frozen=True)
class Checked:
    """What was tried of a module on the group's images, from 0 to 1; None was not tried: it is only stated.

    Args:
        common: of an extractor: common classes that the group's head tells from its features; not above chance is refused.
        rotation: of an extractor: turns that the group's head tells; not above chance is refused.
        head: of a head: common classes, of those that it names, that it tells from the first member's features. It is
            a figure, and no refusal: how well true heads recombine depends on the methods.
        common_chance, rotation_chance, head_chance: what deciding for the most frequent class of these images would reach.
    """

    common: float | None = None
    rotation: float | None = None
    head: float | None = None
    head_chance: float | None = None
    common_chance: float | None = None
    rotation_chance: float | None = None


def check_member(module: ModuleFile, group_file: ModuleFile) -> Checked:
    """Check a category or task module against its group.

    Args:
        module: an extractor, whose features the shared heads are tried on; or a head, which is tried on the first member's
            features, where the group has them.

    Raises:
        Misfit: `group_mismatch`, `shape_mismatch`, `preprocessing_mismatch`, `architecture_mismatch`.
        TrainingFailed: `at_chance`; a shared head tells no more from its features than chance would.

    Source: ours; the paper has no registry.
    """
    group = Group(group_file)
    said = group_of(module.manifest)
    if said != group_file.digest:
        named = "no group" if said is None else f"the group {said[:12]}"
        raise Misfit(f"the module names {named}, this one is {group_file.digest[:12]}", code="group_mismatch")
    _check_signature(module, group)
    if "IIW" in group.spec.methods:
        check_weights(module, group)
    return _tried(module, group) if module.manifest.kind == "category" else _tried_head(module, group)


def check_group(file: ModuleFile) -> None:
    """Refuse a group whose own tensors cannot be what its members begin with and are checked on.

    Raises:
        RecipeRefused: `common_classes`, `recipe_invalid`; as `found` does.
        ModuleFileError: `manifest_invalid`, first weights without IIW, or none with it; `weight_unused`.
        SamplesRefused: `samples_invalid`; the images to check members on, or the features to try heads on.
    """
    group = Group(file)
    check_methods(group.spec)
    known = (CHECK_X, CHECK_Y, *([CHECK_FEATURES] if group.trained else [])) if CHECK_X in file.extras else ()
    odd = [name for name in sorted(file.extras) if name.startswith("group.") and name not in known]
    odd = [name for name in odd if not name.startswith(INITIAL)]
    if odd:
        raise WeightsRefused(f"the group has the tensor {odd[0]}, which nothing uses", code="weight_unused")
    if bool(group.initial) != ("IIW" in group.spec.methods):
        has = "has" if group.initial else "lacks"
        raise ModuleFileError(
            f"the group's methods are {list(group.spec.methods)}, and it {has} first weights", code="manifest_invalid"
        )
    check = group.check
    if check is None:
        return
    if len(check) > CHECKED:
        raise SamplesRefused(f"the group has {len(check)} images to check members on, {CHECKED} are allowed")
    checks(check, group.spec)
    features = file.extras.get(CHECK_FEATURES)
    if features is not None:
        _check_features(features, group, len(check))


def _check_features(features: Tensor, group: Group, images: int) -> None:
    spec = TensorSpec(dtype="float32", shape=("N", *features.shape[1:]))
    if not 0 < len(features) <= images or not features.is_floating_point() or not fits(spec, group.signature):
        raise SamplesRefused(
            f"the group's features to try heads on are {list(features.shape)}, its split is at {say(group.signature)}"
        )


def _check_signature(module: ModuleFile, group: Group) -> None:
    manifest = module.manifest
    if manifest.kind not in ("category", "task"):
        raise Misfit(
            f"a group has category and task modules, not a {manifest.kind}",
            code="kind_mismatch",
            hint="give a whole network with its cut: what it is cut into are members",
        )
    split = output_of(manifest) if manifest.kind == "category" else manifest.input
    if not fits(split, group.signature):
        raise Misfit(f"the module is split at {say(split)}, its group at {say(group.signature)}")
    if manifest.kind == "category" and not fits(manifest.input, group.spec.image):
        raise Misfit(f"the module's input is {say(manifest.input)}, the group's images are {say(group.spec.image)}")
    ours, theirs = manifest.preprocessing, group.file.manifest.preprocessing
    if ours != theirs:
        raise Misfit(
            f"the module's preprocessing is {ours and ours.model_dump()}, the group's {theirs and theirs.model_dump()}",
            code="preprocessing_mismatch",
        )


def check_weights(module: ModuleFile, group: Group) -> None:
    """With IIW, an extractor's weights have the names and shapes of those that all begin with.

    Raises:
        Misfit: `architecture_mismatch`.
    """
    initial = group.initial
    for name, weight in module.weights.items() if module.manifest.kind == "category" else ():
        # Tables of indices and the like are no weights that anything begins with.
        if not weight.is_floating_point():
            continue
        if name not in initial or initial[name].shape != weight.shape:
            had = f"has {list(initial[name].shape)}" if name in initial else "has none"
            raise Misfit(
                f"the weight {name} is {list(weight.shape)}, where the group {had}", code="architecture_mismatch"
            )


def _tried(module: ModuleFile, group: Group) -> Checked:
    check = group.check
    if check is None or not group.trained or not group.heads:
        return Checked()
    found: dict[str, float] = {}
    extractor, heads = module.net(), group.file.net()

    def seen(images: Tensor) -> Any:
        return heads(extractor(images))

    if COMMON in group.heads and check.y is not None:
        found |= _reached(COMMON, seen, _affordable(check, seen))
    if ROTATION in group.heads:
        few = _affordable(SampleSet(check.x, torch.arange(len(check)) % TURNS), seen)
        turns = class_ids(few)
        found |= _reached(ROTATION, seen, SampleSet(losses.turned(few.x, turns), turns))
    return Checked(**found)


def _affordable(check: SampleSet, net: Callable[[Tensor], Any]) -> SampleSet:
    """As many of the images as the work on them may take, FEWEST at least; all, where fewer could tell nothing."""
    # A size that both leave free may be one that a head does not take.
    says = "the module and its group do not take each other's features"
    with torch.no_grad(), FlopCounterMode(display=False) as counter, refusing(lambda why: Misfit(f"{says}: {why}")):
        net(check.x[:1])
    few = a_few(check, max(FEWEST, WORK // max(1, counter.get_total_flops())))
    return few if above(1.0, chance_of(few), len(few)) else check


def _tried_head(module: ModuleFile, group: Group) -> Checked:
    """On the images of those common classes that it names, and among these alone."""
    seen, output = group.seen, output_of(module.manifest)
    names = output.class_names
    if seen is None or seen.y is None or not names or len(output.shape) != 2:
        return Checked()
    net = module.net()
    seen = _affordable(seen, net)
    logits, shown = through(net, seen.x), class_ids(seen)
    if logits.shape[1:] == (1,) and len(names) == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    if logits.shape[1:] != (len(names),):
        return Checked()
    index = {name: at for at, words in enumerate(group.spec.common.values()) for name in words}
    columns = [at for at, name in enumerate(names) if name in index]
    common = torch.tensor([index[names[at]] for at in columns])
    rows = torch.isin(shown, common)
    if len(torch.unique(common)) < 2 or not rows.any():
        return Checked()
    right = common[logits[rows][:, columns].argmax(1)] == shown[rows]
    return Checked(head=float(right.double().mean()), head_chance=chance_of(SampleSet(seen.x[rows], shown[rows])))


def _reached(head: str, seen: Callable[[Tensor], Any], check: SampleSet) -> dict[str, float]:
    """As `Checked` has it."""

    def logits_of(images: Tensor) -> Tensor:
        found = seen(images)
        logits: Tensor = found[head] if isinstance(found, dict) else found
        return logits

    right = float((through(logits_of, check.x).argmax(1) == class_ids(check)).double().mean())
    chance = chance_of(check)
    if not above(right, chance, len(check)):
        raise TrainingFailed(
            f"the group's head {head} is right on {right:.1%} of its images with these features, chance is {chance:.1%}",
            code="at_chance",
            hint="the module was trained against another group, or hardly at all",
        )
    return {head: right, f"{head}_chance": chance}
