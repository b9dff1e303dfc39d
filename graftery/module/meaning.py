"""What outputs mean, and the little of it that shapes can contradict. Torch-free."""

from __future__ import annotations

from graftery.errors import ModuleFileError
from graftery.module.check import shape_text
from graftery.spec.manifest import CompatMethod, Manifest, OutputMeaning, OutputSpec, Semantics, TensorSpec

ROTATION, COMMON, UNTRAINED = "rotation", "common", "features"
HEADS: dict[CompatMethod, str] = {"RP": ROTATION, "DCC": COMMON}
"""The shared heads of a compatibility group: outputs of its file, by method."""
TURNS = 4
"""By 0, 90, 180 and 270 degrees."""
_RANK: dict[Semantics, int] = {"classification": 2, "segmentation": 4}


def default_meaning(kind: str, spec: TensorSpec) -> OutputMeaning:
    """What an output most likely is, from the module's kind and the output's rank."""
    if kind in ("category", "adapter"):
        return OutputMeaning(semantics="feature")
    ranks: dict[int, Semantics] = {rank: semantics for semantics, rank in _RANK.items()}
    return OutputMeaning(semantics=ranks.get(len(spec.shape), "regression"))


def check_meaning(manifest: Manifest) -> None:
    """Refuse outputs whose shape contradicts their meaning.

    Raises:
        ModuleFileError: `manifest_invalid`.
    """
    if manifest.kind in ("category", "adapter", "task", "clone") and len(manifest.outputs) != 1:
        raise _bad(f"a {manifest.kind} module has one output, this has {sorted(manifest.outputs)}")
    for name, output in manifest.outputs.items():
        _check_output(name, output)
    _check_preprocessing(manifest)
    _check_group(manifest)
    _check_clone(manifest)


def _check_preprocessing(manifest: Manifest) -> None:
    """Of images, as they go into a module of these kinds; others inherit it of the net that they are a part of."""
    said, shape = manifest.preprocessing, manifest.input.shape
    if said is None or manifest.kind not in ("category", "teacher", "group") or len(shape) != 4:
        return
    for name, values in (("mean", said.mean), ("std", said.std)):
        if len(values) not in (1, shape[1]):
            raise _bad(f"preprocessing.{name} has {len(values)} numbers, the input has {shape[1]} channels")
    if min(said.std) <= 0:
        raise _bad(f"preprocessing.std is {list(said.std)}, what an image is divided by is above 0")
    low, high = said.value_range
    if low >= high:
        raise _bad(f"preprocessing.value_range is {low:g} to {high:g}, the first is the lower one")


def _check_clone(manifest: Manifest) -> None:
    """A clone gives a logit for each of its classes; no other kind has any."""
    clone = manifest.clone
    if (manifest.kind == "clone") != (clone is not None):
        raise _bad(f"a manifest of kind {manifest.kind} {'needs' if clone is None else 'may not have'} the field clone")
    if clone is None:
        return
    ((name, output),) = manifest.outputs.items()
    if output.semantics != "classification" or tuple(output.shape) != ("N", len(clone.classes)):
        raise _bad(
            f"output {name} is {output.semantics} {shape_text(output)}, the clone has {len(clone.classes)} classes"
        )
    if len(set(clone.classes)) < len(clone.classes) or output.class_names != clone.classes:
        raise _bad("the clone's classes are not those that its output names, each once")


def _check_group(manifest: Manifest) -> None:
    """A group has a head for each of its methods, or, before it was trained, gives its input back; no other kind has any."""
    group = manifest.group
    if (manifest.kind == "group") != (group is not None):
        raise _bad(f"a manifest of kind {manifest.kind} {'needs' if group is None else 'may not have'} the field group")
    if group is None:
        return
    heads = {HEADS[method] for method in group.methods if method in HEADS}
    found = set(manifest.outputs)
    if found not in (heads, {UNTRAINED}):
        raise _bad(f"the group has the outputs {sorted(found)}, its methods have the heads {sorted(heads)}")
    sizes = {ROTATION: TURNS, COMMON: len(group.common)}
    for name in found & sizes.keys():
        if tuple(manifest.outputs[name].shape) != ("N", sizes[name]):
            raise _bad(f"the head {name} gives {shape_text(manifest.outputs[name])}, not [N, {sizes[name]}]")
    names = manifest.outputs[COMMON].class_names if COMMON in found else None
    if names is not None and names != tuple(group.common):
        raise _bad(f"the head {COMMON} tells {list(names)}, the group's common classes are {list(group.common)}")


def _check_output(name: str, output: OutputSpec) -> None:
    rank = _RANK.get(output.semantics, len(output.shape))
    if len(output.shape) != rank:
        raise _bad(
            f"output {name} is {output.semantics}, which has {rank} dimensions, its shape is {shape_text(output)}"
        )
    if output.class_names is not None:
        classes = output.shape[1] if len(output.shape) > 1 else 1
        if len(output.class_names) not in ({1, 2} if classes == 1 else {classes}):
            raise _bad(f"output {name} has {classes} logits and {len(output.class_names)} class names")


def _bad(what: str) -> ModuleFileError:
    return ModuleFileError(what, code="manifest_invalid")
