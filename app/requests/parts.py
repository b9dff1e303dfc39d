"""What rows say about the modules and samples behind them, as the vocabulary's types."""

from __future__ import annotations

from graftery.errors import Misfit, SamplesRefused
from graftery.spec import labels
from graftery.spec.cloning import whole_manifest
from graftery.spec.manifest import Facts, Manifest, OutputSpec, SamplesFacts, TensorSpec
from registry.catalogue import NetworkVersions
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


def whole_of(network: NetworkVersions) -> Manifest:
    """What a network states as a whole: from its category module's input to its task module's output, clones' classes too."""
    return whole_manifest(
        manifest_of(network.category), manifest_of(network.task), [manifest_of(clone) for clone in network.clones]
    )


def output_name(task: Version) -> str:
    """The name of a task module's one output."""
    return next(iter(facts_of(task).outputs))


def check_samples(version: Version, role: str, wanted: TensorSpec, meaning: OutputSpec, *, labelled: bool) -> None:
    """Refuse a sample set that the category module cannot read, or whose labels are not those that its role needs.

    Args:
        wanted: the category's input.
        meaning: of the task's output.
        labelled: the role needs labels.

    Raises:
        SamplesRefused: `samples_invalid`.
        Misfit: `shape_mismatch`.
    """
    facts, what = samples_of(version), f"{role} {version.ref}"
    if labelled and not facts.labelled:
        raise SamplesRefused(f"{version.ref} has no labels, and {role} needs them", hint="upload it with y")
    sizes = list(zip(facts.x.shape[1:], wanted.shape[1:], strict=False))
    free = ("H", "W")
    fits = len(facts.x.shape) == len(wanted.shape) and all(a == b or a in free or b in free for a, b in sizes)
    if not fits:
        raise Misfit(
            f"{what} has samples of shape {list(facts.x.shape[1:])}, but the category reads {list(wanted.shape[1:])}",
            hint="upload the samples in that shape, preprocessed as the category's input",
        )
    if facts.x.dtype != wanted.dtype:
        raise SamplesRefused(
            f"{what} has samples of {facts.x.dtype}, but the category reads {wanted.dtype}",
            hint=f"upload x as {wanted.dtype}",
        )
    if labelled and facts.y is not None:
        labels.check_labels(facts.y.shape, facts.labels, meaning, what)


def samples_of(version: Version) -> SamplesFacts:
    return SamplesFacts.model_validate(version.facts)
