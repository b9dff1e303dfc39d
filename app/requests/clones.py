"""From a request for a clone to a job: everything that can be refused from what is known of the files is refused here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from sqlalchemy.orm import Session

from app.requests import names
from app.requests.attaching import check_room
from app.requests.parts import check_samples, facts_of, samples_of, whole_of
from graftery.errors import Conflict, RecipeRefused, SamplesRefused
from graftery.spec import labels
from graftery.spec.clones import CloneRequest
from graftery.spec.cloning import FEWEST_IMAGES, check_inputs, classes_of, only_output, wanted_indices
from graftery.spec.manifest import Kind, Manifest, OutputSpec, json_of
from graftery.spec.memory import estimate_clone
from graftery.spec.names import check_alias
from graftery.spec.recipes import CloneRecipe
from registry import catalogue, jobs
from registry.catalogue import NetworkVersions
from registry.models import Job, Version

_SETS: tuple[str, ...] = ("samples", "evaluate_on", "source_evaluate_on")


@dataclass(frozen=True)
class _Whole:
    """A network as one net: the versions that it is made of, and what it states."""

    parts: NetworkVersions
    manifest: Manifest

    @classmethod
    def of(cls, session: Session, network: Version) -> _Whole:
        parts = catalogue.network_parts(session, network)
        return cls(parts, whole_of(parts))


def submit(session: Session, request: CloneRequest) -> Job:
    """Pin every reference, check what can be checked without the files, and queue the job.

    Raises:
        GrafteryError: `name_invalid`: a name or alias that nothing can have.
        NotFound: a reference names nothing, or something yanked.
        Conflict: a name belongs to another kind; a reference is of another one; the target has all the clones that it can have.
        Misfit: source and target read other images, or are no classifiers; `class_known`.
        RecipeRefused: `class_unknown`, `position_invalid`, `recipe_invalid`.
        SamplesRefused: samples that do not fit, too few of them, or other labels than these classes'.
    """
    if request.network == request.name:
        raise Conflict(
            f"{request.name} cannot name both the clone and the network that has it",
            code="kind_conflict",
            hint="choose another name for one of them",
        )
    if request.alias is not None:
        check_alias(request.alias)
    names.check_in(session, {request.name: ("clone",), **({request.network: ("network",)} if request.network else {})})
    pinned = _resolved(session, request)
    source, target = _Whole.of(session, pinned["source"]), _Whole.of(session, pinned["target"])
    if request.network is not None:
        check_room(target.parts, 1, request.target)
    check_inputs(source.manifest, target.manifest)
    wanted_indices(source.manifest, target.manifest, request.want)
    _check_positions(target.parts, request.recipe)
    _check_sets(pinned, source.manifest, target.manifest, request)
    return jobs.submit(
        session,
        kind="clone",
        request=request.model_dump(mode="json", exclude_none=True),
        pinned={role: version.pin for role, version in pinned.items()},
        recipe=json_of(request.recipe),
        memory_bytes=_memory(source.parts, target.parts, pinned["samples"], request.recipe),
    )


def _memory(source: NetworkVersions, target: NetworkVersions, samples: Version, recipe: CloneRecipe) -> int | None:
    source_facts, target_facts = (
        [facts_of(version) for version in network.members.values()] for network in (source, target)
    )
    return estimate_clone(source_facts, target_facts, samples_of(samples).count, recipe)


def _resolved(session: Session, request: CloneRequest) -> dict[str, Version]:
    """Role to version, of all that the request names."""
    kinds: Mapping[str, Kind] = {"source": "network", "target": "network", **dict.fromkeys(_SETS, "samples")}
    named = {role: getattr(request, role) for role in kinds}
    return {
        role: catalogue.resolve(session, ref, kinds={kinds[role]}, for_pin=True)
        for role, ref in named.items()
        if ref is not None
    }


def _check_positions(target: NetworkVersions, recipe: CloneRecipe) -> None:
    """Refuse layers that the target does not have; whether a clone can be inserted there, the job finds out."""
    there = list(_layers(target))
    for layer in recipe.positions:
        if layer not in there:
            near = get_close_matches(layer, there, n=5, cutoff=0.4) or there[-5:]
            raise RecipeRefused(
                f"the target has no layer {layer!r}", code="position_invalid", hint=f"near it: {', '.join(near)}"
            )


def _layers(network: NetworkVersions) -> Iterator[str]:
    """As `graftery.module.joining.join` calls them: a clone reads the target's own features, never another clone's."""
    for role, version in network._replace(clones=()).members.items():
        yield from (f"{role}.{layer}" for layer in facts_of(version).layers)


def _check_sets(sets: Mapping[str, Version], source: Manifest, target: Manifest, request: CloneRequest) -> None:
    classes = (*classes_of(target), *request.want)
    ours = only_output(target)[1].model_copy(update={"shape": ("N", len(classes)), "class_names": classes})
    theirs = only_output(source)[1]
    meanings: Mapping[str, tuple[Manifest, OutputSpec]] = {
        "samples": (target, ours),
        "evaluate_on": (target, ours),
        "source_evaluate_on": (source, theirs),
    }
    for role in (role for role in _SETS if role in sets):
        net, meaning = meanings[role]
        check_samples(sets[role], role, net.input, meaning, labelled=True)
        if role == "samples":  # the source is asked about them, too
            check_samples(sets[role], role, source.input, meaning, labelled=True)
        else:
            labels.check_measured(samples_of(sets[role]).labels, meaning, f"{role} {sets[role].ref}")
    _check_enough(sets["samples"], classes, request)


def _check_enough(samples: Version, classes: tuple[str, ...], request: CloneRequest) -> None:
    """Refuse a set without a class that is needed, or with too few images; how many there are of each, the job counts."""
    facts, needed = samples_of(samples), classes
    if request.recipe.originals == "noise":
        needed = classes[-len(request.want) :]
    there = None if facts.labels is None else facts.labels.classes
    lacking = [name for index, name in enumerate(classes) if there and name in needed and index not in there]
    if lacking or facts.count < FEWEST_IMAGES * len(needed):
        said = f"has no image of the class {lacking[0]!r}" if lacking else f"has {facts.count} images"
        raise SamplesRefused(
            f"{samples.ref} {said}; {FEWEST_IMAGES} are needed of each of {len(needed)} classes",
            code="samples_missing",
            hint='add some; of the target\'s classes none are needed with noise in their place: originals "noise"',
        )
