"""Whether the images that are given go with the nets: refused before anything is learned."""

from __future__ import annotations

from collections.abc import Sequence

from graftery.data.samples import SampleSet
from graftery.errors import Misfit, SamplesRefused
from graftery.module import ModuleFile
from graftery.module.samples import label_facts
from graftery.spec import labels
from graftery.spec.cloning import classes_of, only_output
from graftery.spec.fit import fits
from graftery.spec.manifest import Manifest, OutputSpec, TensorSpec


def check_sets(
    source: ModuleFile,
    target: ModuleFile,
    wanted: Sequence[str],
    samples: SampleSet,
    *,
    evaluate_on: SampleSet | None,
    source_evaluate_on: SampleSet | None,
) -> None:
    """Refuse images that the nets do not read, and labels to measure by that are none of their classes'.

    Raises:
        Misfit: `shape_mismatch`.
        SamplesRefused: `samples_invalid`; `samples_missing`, there are no labels to measure by.
    """
    classes = (*classes_of(target.manifest), *wanted)
    ours = only_output(target.manifest)[1].model_copy(update={"shape": ("N", len(classes)), "class_names": classes})
    for net in (target, source):  # both are asked about them
        _check_shape(samples, net.manifest, "samples")
    if evaluate_on is not None:
        _check_measured(evaluate_on, target.manifest, ours, "evaluate_on")
    if source_evaluate_on is not None:
        _check_measured(source_evaluate_on, source.manifest, only_output(source.manifest)[1], "source_evaluate_on")


def _check_measured(given: SampleSet, net: Manifest, meaning: OutputSpec, what: str) -> None:
    _check_shape(given, net, what)
    if given.y is None:
        raise SamplesRefused(f"{what} has no labels to measure by", code="samples_missing", hint="give it y")
    labels.check_labels(tuple(given.y.shape), label_facts(given.y), meaning, what)


def _check_shape(given: SampleSet, net: Manifest, what: str) -> None:
    ours = TensorSpec(dtype=net.input.dtype, shape=("N", *given.x.shape[1:]))
    if not fits(ours, net.input):
        raise Misfit(
            f"{what} has images of shape {list(ours.shape[1:])}, the net reads {list(net.input.shape[1:])}",
            hint="give them in that shape, preprocessed as the net's input",
        )
