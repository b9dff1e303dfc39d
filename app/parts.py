"""What rows say about the modules and samples behind them, as the vocabulary's types."""

from __future__ import annotations

from graftery.errors import Misfit, SamplesRefused
from graftery.spec.manifest import Facts, Manifest, SamplesFacts, TensorSpec
from registry.models import Version


def facts_of(version: Version) -> Facts:
    return Facts.model_validate(version.facts)


def manifest_of(version: Version) -> Manifest:
    """The owner's meanings with the verifier's shapes: nothing that can be checked is taken on trust."""
    manifest, facts = Manifest.model_validate(version.manifest), facts_of(version)
    outputs = {
        name: spec.model_copy(update={"dtype": facts.outputs[name].dtype, "shape": facts.outputs[name].shape})
        for name, spec in manifest.outputs.items()
    }
    return manifest.model_copy(update={"input": facts.input, "outputs": outputs})


def output_name(task: Version) -> str:
    """The name of a task module's one output."""
    return next(iter(facts_of(task).outputs))


def check_samples(version: Version, role: str, wanted: TensorSpec, *, labelled: bool) -> None:
    """Refuse a sample set that the category module cannot read, or that lacks the labels that its role needs.

    Raises:
        SamplesRefused: `samples_invalid`.
        Misfit: `shape_mismatch`.
    """
    facts = SamplesFacts.model_validate(version.facts)
    if labelled and not facts.labelled:
        raise SamplesRefused(f"{version.ref} has no labels, and {role} needs them", hint="upload it with y")
    sizes = list(zip(facts.x.shape[1:], wanted.shape[1:], strict=False))
    free = ("H", "W")
    fits = len(facts.x.shape) == len(wanted.shape) and all(a == b or a in free or b in free for a, b in sizes)
    if not fits:
        raise Misfit(
            f"{role} {version.ref} has samples of shape {list(facts.x.shape[1:])}, "
            f"but the category reads {list(wanted.shape[1:])}"
        )
