"""Classes of nets between which skills are cloned, and what a clone needs, from manifests alone. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from graftery.errors import Misfit, RecipeRefused
from graftery.spec.fit import fits, say
from graftery.spec.manifest import Manifest, OutputSpec

CLONE_MIXES = 1024
"""Mixed images of either kind that a clone is joined with, made once; at most as many as there are views."""
CLONE_NOISE_RATE = 5e-3
"""Of what joins a clone, at most, where noise stands for original images."""
FEWEST_IMAGES = 5
"""Of a class, wanted or original: with fewer a clone is refused."""


def only_output(manifest: Manifest, what: str = "net") -> tuple[str, OutputSpec]:
    """The one output of a classifier of two classes or more.

    Raises:
        Misfit: `semantics_mismatch`.
    """
    outputs = list(manifest.outputs.items())
    name, spec = outputs[0]
    classes = spec.shape[1] if len(spec.shape) == 2 else None
    if len(outputs) > 1 or spec.semantics != "classification" or not isinstance(classes, int) or classes < 2:
        raise Misfit(
            f"the {what} has the outputs {', '.join(f'{n}: {s.semantics} {list(s.shape)}' for n, s in outputs)}",
            code="semantics_mismatch",
            hint="classes are cloned between nets of one output: the logits [N, K] of two classes or more",
        )
    return name, spec


def classes_of(manifest: Manifest, what: str = "net") -> tuple[str, ...]:
    """The names of a classifier's classes; where it has none, `class 0`, `class 1`, ...

    Raises:
        Misfit: `semantics_mismatch`.
    """
    _, spec = only_output(manifest, what)
    return spec.class_names or tuple(f"class {index}" for index in range(int(spec.shape[1])))


def whole_manifest(category: Manifest, task: Manifest, clones: Sequence[Manifest] = ()) -> Manifest:
    """What the whole network of these modules states of itself: as `join` and `attach` make it, from manifests alone."""
    outputs = task.outputs
    if clones:
        name, spec = only_output(task, "network")
        added = [each for clone in clones if clone.clone is not None for each in clone.clone.classes]
        names = (*classes_of(task), *added)
        outputs = {name: spec.model_copy(update={"shape": ("N", len(names)), "class_names": names})}
    given = {"input": category.input, "preprocessing": category.preprocessing, "outputs": outputs}
    return task.model_copy(update={"kind": "teacher", "cut": None, "parents": (), **given})


def wanted_indices(source: Manifest, target: Manifest, wanted: Sequence[str]) -> tuple[int, ...]:
    """Where the wanted classes are among the source's.

    Raises:
        RecipeRefused: `recipe_invalid`, no class is wanted, or one twice; `class_unknown`.
        Misfit: `class_known`, the target has it; `semantics_mismatch`.
    """
    ours, theirs = classes_of(source, "source"), set(classes_of(target, "target"))
    if not wanted or len(set(wanted)) < len(wanted):
        said = "no class is wanted" if not wanted else f"a class is wanted twice: {', '.join(wanted)}"
        raise RecipeRefused(said, hint=f"the source has {', '.join(ours[:20])}")
    for name in wanted:
        if name not in ours:
            raise RecipeRefused(
                f"the source has no class {name[:100]!r}", code="class_unknown", hint=f"it has {', '.join(ours[:20])}"
            )
    if known := [name for name in wanted if name in theirs]:
        made_up = only_output(target)[1].class_names is None
        hint = "publish one of the nets with names of its classes" if made_up else "want others"
        raise Misfit(f"the target has the class {known[0]!r} already", code="class_known", hint=hint)
    return tuple(ours.index(name) for name in wanted)


def check_inputs(source: Manifest, target: Manifest) -> None:
    """Refuse nets that read different images.

    Raises:
        Misfit: `shape_mismatch`, `preprocessing_mismatch`.
    """
    if not fits(source.input, target.input):
        raise Misfit(f"the source reads {say(source.input)}, the target {say(target.input)}")
    ours, theirs = source.preprocessing, target.preprocessing
    if ours is not None and theirs is not None and ours != theirs:
        raise Misfit(
            f"the source's preprocessing is {ours.model_dump()}, the target's {theirs.model_dump()}",
            code="preprocessing_mismatch",
            hint="the clone reads what the target reads: train the source on images that are preprocessed so",
        )
