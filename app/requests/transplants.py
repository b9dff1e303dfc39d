"""From a request for a transplant to a job: everything that can be refused is refused here, before a job exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.requests import names
from app.requests.parts import check_samples, facts_of, manifest_of, output_name, samples_of
from graftery.errors import Conflict, SamplesRefused
from graftery.spec import labels
from graftery.spec.fit import check_join, output_of
from graftery.spec.manifest import UNNAMED, Kind, json_of
from graftery.spec.memory import estimate
from graftery.spec.names import check_alias
from graftery.spec.plan import TEACHING, complete
from graftery.spec.recipes import TransplantRecipe
from graftery.spec.wire import TransplantRequest
from registry import catalogue, jobs
from registry.models import Job, Version


@dataclass(frozen=True)
class Planned:
    """A request that can work: role to version of all it names and of gT, and the complete recipe."""

    parts: dict[str, Version]
    recipe: TransplantRecipe


def plan(session: Session, request: TransplantRequest) -> Planned:
    """Pin every reference, check that the parts can be joined, complete the recipe.

    Args:
        request: for one task (`app.several.split` makes those of several).

    Raises:
        GrafteryError: `name_invalid`: a name or alias that nothing can have.
        NotFound: a reference names nothing, or something yanked.
        Conflict: a name belongs to another kind; the teacher has not the task that is meant, or several.
        Misfit: the parts cannot be joined.
        RecipeRefused, SamplesRefused: the recipe or its data cannot be used.
    """
    if request.alias is not None:
        check_alias(request.alias)
    names.check_in(session, {request.name: ("network",), f"{request.name}-adapter": ("adapter",)})
    parts = _resolved(session, request)
    check_parts(session, parts["category"], parts["task"], parts.get("teacher_task"), force=request.force)
    check_sets(parts)
    recipe = _recipe(request.recipe, parts)
    if "samples" in parts and "direct" in recipe.objectives:
        check_taught(parts["samples"], parts["task"], recipe.labels or 0)
    _check_resolution(parts, recipe)
    return Planned(parts, recipe)


def submit(
    session: Session, request: TransplantRequest, planned: Planned, generic: Mapping[str, Any] | None = None
) -> Job:
    """Queue the job of a request as it was planned.

    Args:
        generic: the cell that it is for (`registry.generics.settle`).
    """
    asked = request.model_dump(mode="json", exclude_none=True)
    return jobs.submit(
        session,
        kind="transplant",
        request=asked if generic is None else {**asked, "generic": dict(generic)},
        pinned={role: version.pin for role, version in planned.parts.items()},
        recipe=json_of(planned.recipe),
        memory_bytes=memory(planned),
    )


def memory(planned: Planned) -> int | None:
    """About what it takes of its device, in bytes; None: that is not known of its modules."""
    nets = {
        role: facts_of(planned.parts[role]) for role in ("category", "task", "teacher_task") if role in planned.parts
    }
    return estimate(nets["category"], nets["task"], nets.get("teacher_task"), planned.recipe)


def check_parts(
    session: Session, category: Version, task: Version, teacher_task: Version | None, *, force: bool
) -> None:
    """Refuse modules that no adapter joins, and a gT that is not f's.

    Raises:
        Misfit: shapes, preprocessing or meanings disagree.
        Conflict: `conflict`: gT was cut from another teacher.
    """
    taught = manifest_of(teacher_task) if teacher_task is not None else None
    check_join(manifest_of(category), manifest_of(task), taught, with_adapter=True, force=force)
    if teacher_task is not None and not force:
        _check_own_task(session, category, teacher_task)


def _check_own_task(session: Session, category: Version, teacher_task: Version) -> None:
    """Refuse a gT that was cut from another teacher than f. Where a part was not cut from any, nothing is known."""
    own, other = (set(catalogue.teachers_of(session, part)) for part in (category, teacher_task))
    if own and other and not own & other:
        choices = [each.ref for each in catalogue.teacher_tasks(session, category)]
        raise Conflict(
            f"{teacher_task.ref} was not cut from the teacher of {category.ref}, which has {', '.join(choices) or 'no task'}",
            hint="name one of those in teacher_task, or say force",
            choices=choices,
        )


def check_sets(parts: Mapping[str, Version]) -> None:
    """Refuse sample sets that do not fit the category, the task or each other."""
    wanted, meaning = manifest_of(parts["category"]).input, output_of(manifest_of(parts["task"]))
    sets = {role: samples_of(parts[role]) for role in ("samples", "unlabelled", "evaluate_on") if role in parts}
    for role in sets:
        check_samples(parts[role], role, wanted, meaning, labelled=role != "unlabelled")
    if len({facts.x.shape for facts in sets.values()}) > 1:
        sizes = ", ".join(f"{role} {list(facts.x.shape[1:])}" for role, facts in sets.items())
        raise SamplesRefused(
            f"the sample sets have inputs of different sizes: {sizes}",
            hint="resize them to one size, or leave a set out",
        )
    if "evaluate_on" in sets:
        labels.check_measured(sets["evaluate_on"].labels, meaning, f"evaluate_on {parts['evaluate_on'].ref}")


def _check_resolution(parts: Mapping[str, Version], recipe: TransplantRecipe) -> None:
    """Refuse labels of other sizes than those that gT's output states: the adapter gives the task's output the same sizes."""
    if "teacher_task" not in parts:
        return
    sizes = output_of(manifest_of(parts["teacher_task"])).shape
    meaning = output_of(manifest_of(parts["task"])).model_copy(update={"shape": sizes})
    taught = "direct" in recipe.objectives and TEACHING & recipe.objectives.keys()
    for role in ("samples", "evaluate_on") if taught else ("evaluate_on",):
        facts = samples_of(parts[role]) if role in parts else None
        if facts is not None and facts.y is not None:
            labels.check_labels(facts.y.shape, None, meaning, f"{role} {parts[role].ref}")


def check_taught(samples: Version, task: Version, used: int) -> None:
    """Refuse labels that so many of teach nothing of the task."""
    meaning = output_of(manifest_of(task))
    labels.check_taught(samples_of(samples).labels, meaning, f"samples {samples.ref}", used)


def _resolved(session: Session, request: TransplantRequest) -> dict[str, Version]:
    """Role to version, of all that the request names and of gT."""
    wanted: tuple[tuple[str, object, Kind], ...] = (
        ("category", request.category, "category"),
        ("task", request.task, "task"),
        ("teacher_task", request.teacher_task, "task"),
        ("samples", request.samples, "samples"),
        ("unlabelled", request.unlabelled, "samples"),
        ("evaluate_on", request.evaluate_on, "samples"),
    )
    parts = {
        role: catalogue.resolve(session, ref, kinds={kind}, for_pin=True)
        for role, ref, kind in wanted
        if isinstance(ref, str)
    }
    if "teacher_task" not in parts:
        found = teacher_task_of(session, parts["category"], parts["task"], request.recipe)
        parts.update({} if found is None else {"teacher_task": found})
    return parts


def teacher_task_of(session: Session, category: Version, task: Version, recipe: TransplantRecipe) -> Version | None:
    """gT: of the task modules that were cut from the category's own teacher, the one with the task's output; None: nothing is known.

    Raises:
        Conflict: it has not that task, or several.
    """
    there = catalogue.teacher_tasks(session, category)
    wanted = output_name(task)
    found = [each for each in there if output_name(each) == wanted]
    if not found and len(there) == 1 and UNNAMED in (wanted, output_name(there[0])):
        found = there  # nobody said what that output is called
    if len(found) == 1 or not there:
        return found[0] if found else None
    if recipe.objectives and not TEACHING & recipe.objectives.keys():
        return None  # nothing of this recipe asks a teacher
    choices = [each.ref for each in there]
    lacks = f"has several tasks with the output {wanted!r}" if found else f"has no task with the output {wanted!r}"
    raise Conflict(
        f"the teacher of {category.ref} {lacks}: it has {', '.join(choices)}",
        hint="say in teacher_task which one means the same",
        choices=choices,
    )


def _recipe(recipe: TransplantRecipe, parts: dict[str, Version]) -> TransplantRecipe:
    category, teacher_task, samples = parts["category"], parts.get("teacher_task"), parts.get("samples")
    nets = [facts_of(part) for part in (category, teacher_task) if part is not None]
    filled = complete(
        recipe,
        labels=samples.facts["count"] if samples is not None and samples.facts else 0,
        unlabelled="unlabelled" in parts,
        teacher_task=teacher_task is not None,
        batch_norm=any(facts.has_batch_norm for facts in nets),
        sketch=nets[0].has_sketch,
        crops=nets[0].has_crops,
        dense=output_of(manifest_of(parts["task"])).semantics == "segmentation",
        image_input=len(nets[0].input.shape) == 4,
    )
    sizes = nets[0].input.shape[1:]
    if "moments" in filled.sources and not recipe.sources and any(isinstance(size, str) for size in sizes):
        # Only the worker can tell whether the sketch is of features of the inputs' size: no source is named for it.
        return filled.model_copy(update={"sources": ()})
    return filled
