"""From a request for a transplant to a job: everything that can be refused is refused here, before a job exists."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app import names
from app.parts import check_samples, facts_of, manifest_of, output_name
from graftery.errors import Conflict
from graftery.spec.fit import check_join, output_of
from graftery.spec.manifest import Kind, json_of
from graftery.spec.plan import TEACHING, complete
from graftery.spec.recipes import TransplantRecipe
from graftery.spec.wire import TransplantRequest
from registry import catalogue, jobs
from registry.models import Job, Version


def submit(session: Session, request: TransplantRequest) -> Job:
    """Pin every reference, check that the parts can be joined, complete the recipe, and queue the job.

    Raises:
        NotFound: a reference names nothing, or something yanked.
        Conflict: a name belongs to another kind; several tasks of the teacher could be meant.
        Misfit: the parts cannot be joined.
        RecipeRefused, SamplesRefused: the recipe or its data cannot be used.
    """
    names.check_in(session, {request.name: ("network",), f"{request.name}-adapter": ("adapter",)})
    parts = _resolved(session, request)
    teacher_task = parts.get("teacher_task")
    check_join(
        manifest_of(parts["category"]),
        manifest_of(parts["task"]),
        manifest_of(teacher_task) if teacher_task is not None else None,
        with_adapter=True,
        force=request.force,
    )
    for role, labelled in (("samples", True), ("unlabelled", False), ("evaluate_on", True)):
        if role in parts:
            check_samples(parts[role], role, manifest_of(parts["category"]).input, labelled=labelled)
    return jobs.submit(
        session,
        kind="transplant",
        request=request.model_dump(mode="json", exclude_none=True),
        pinned={role: version.pin for role, version in parts.items()},
        recipe=json_of(_recipe(request.recipe, parts)),
    )


def _resolved(session: Session, request: TransplantRequest) -> dict[str, Version]:
    """Role to version, of all that the request names and of gT."""
    wanted: tuple[tuple[str, str | None, Kind], ...] = (
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
        if ref is not None
    }
    if "teacher_task" not in parts:
        found = _teacher_task(session, parts["category"], parts["task"], request.recipe)
        parts.update({} if found is None else {"teacher_task": found})
    return parts


def _teacher_task(session: Session, category: Version, task: Version, recipe: TransplantRecipe) -> Version | None:
    """gT: the task module that was cut from the category's own teacher; of several, the one with the task's output."""
    candidates = catalogue.teacher_tasks(session, category)
    if len(candidates) > 1:
        wanted = output_name(task)
        candidates = [each for each in candidates if output_name(each) == wanted] or candidates
    if len(candidates) <= 1:
        return candidates[0] if candidates else None
    if recipe.objectives and not TEACHING & recipe.objectives.keys():
        return None  # nothing of this recipe asks a teacher
    choices = [each.ref for each in candidates]
    raise Conflict(
        f"the teacher of {category.ref} has several tasks: {', '.join(choices)}",
        hint="say which one in teacher_task",
        choices=choices,
    )


def _recipe(recipe: TransplantRecipe, parts: dict[str, Version]) -> TransplantRecipe:
    category, teacher_task, samples = parts["category"], parts.get("teacher_task"), parts.get("samples")
    nets = [facts_of(part) for part in (category, teacher_task) if part is not None]
    return complete(
        recipe,
        labels=samples.facts["count"] if samples is not None and samples.facts else 0,
        unlabelled="unlabelled" in parts,
        teacher_task=teacher_task is not None,
        batch_norm=any(facts.has_batch_norm for facts in nets),
        sketch=nets[0].has_sketch,
        dense=output_of(manifest_of(parts["task"])).semantics == "segmentation",
        image_input=len(nets[0].input.shape) == 4,
    )
