"""What a recipe leaves open, filled in from what is at hand. Torch-free: the service answers 4xx before a job exists."""

from __future__ import annotations

from graftery.errors import RecipeRefused
from graftery.spec.recipes import (
    DEFAULT_OBJECTIVES,
    DENSE_INVERSION,
    DENSE_OBJECTIVES,
    AdapterRecipe,
    InversionRecipe,
    Objective,
    Source,
    TransplantRecipe,
)

TEACHING: frozenset[Objective] = frozenset({"distillation", "back_distillation", "pseudo_gradient"})
"""The objectives that ask gT."""


def complete(
    recipe: TransplantRecipe,
    *,
    labels: int,
    unlabelled: bool,
    teacher_task: bool,
    batch_norm: bool,
    sketch: bool,
    dense: bool,
    image_input: bool,
    crops: bool = False,
) -> TransplantRecipe:
    """The recipe with every default filled in (`adapter.final_relu` aside, which only f's features tell).

    Args:
        labels: how many labelled samples there are.
        unlabelled: there is a set of images without labels.
        teacher_task: gT is known.
        batch_norm: f or gT has batch norm, whose statistics the inversion matches.
        sketch: f's file has a sketch of its features, of their size as far as that is known.
        dense: the output is segmentation.
        image_input: f's input is [N, C, H, W].
        crops: that sketch has crops of feature maps.

    Raises:
        RecipeRefused: `recipe_invalid`, or `samples_missing` where samples are what is missing.
    """
    used = labels if recipe.labels is None else recipe.labels
    if used > labels:
        raise _missing(f"the recipe asks for {used} labelled samples, {labels} are there")
    if recipe.noise.alpha_min > recipe.noise.alpha_max:
        raise RecipeRefused(
            f"noise.alpha_min {recipe.noise.alpha_min:g} is above alpha_max {recipe.noise.alpha_max:g}",
            hint="name both: the exponents are drawn between them",
        )
    at_hand: dict[Source, bool] = {
        "samples": used > 0,
        "unlabelled": unlabelled,
        "inversion": batch_norm,
        "moments": sketch,
        "crops": crops,
        "noise": True,
    }
    objectives = _objectives(recipe, labels=used, teacher_task=teacher_task, dense=dense)
    sources = recipe.sources or _sources(objectives, at_hand, dense=dense)
    _check_sources(sources, objectives, at_hand)
    if recipe.batch < len(sources):
        raise RecipeRefused(
            f"a batch of {recipe.batch} has no row for each of the {len(sources)} sources {', '.join(sources)}",
            hint="make batch larger, or name fewer sources",
        )
    augment = recipe.augment if image_input else recipe.augment.model_copy(update={"shift": 0, "flip": False})
    adapter = _adapter(recipe.adapter, dense=dense, teacher_task=teacher_task)
    noise = recipe.noise.model_copy(update={"matched": dense if recipe.noise.matched is None else recipe.noise.matched})
    inversion = _dense_inversion(recipe.inversion) if dense else recipe.inversion
    if adapter.choose and inversion.rounds and inversion.rival_layers is None:
        # Named, so that the recipe of the depth that is chosen has the same rounds.
        inversion = inversion.model_copy(update={"rival_layers": max(adapter.choose)})
    filled = {"objectives": objectives, "sources": sources, "labels": used, "augment": augment, "adapter": adapter}
    return recipe.model_copy(update={**filled, "noise": noise, "inversion": inversion})


def _dense_inversion(recipe: InversionRecipe) -> InversionRecipe:
    """What was named stays, also where it is the default of other outputs."""
    unnamed = {name: value for name, value in DENSE_INVERSION.items() if name not in recipe.model_fields_set}
    return recipe.model_copy(update=unnamed)


def _adapter(recipe: AdapterRecipe, *, dense: bool, teacher_task: bool) -> AdapterRecipe:
    if not recipe.choose:
        return recipe.model_copy(update={"layers": recipe.layers or (3 if dense else 1)})
    if not teacher_task:
        raise RecipeRefused(
            "layers are chosen by how well student and teacher agree: that needs the teacher's task module",
            hint="name teacher_task, or the number of layers",
        )
    return recipe


def _missing(message: str) -> RecipeRefused:
    return RecipeRefused(message, code="samples_missing", hint="give labelled samples, or ask for fewer")


def _objectives(recipe: TransplantRecipe, *, labels: int, teacher_task: bool, dense: bool) -> dict[Objective, float]:
    named = {name: weight for name, weight in recipe.objectives.items() if weight > 0}
    if recipe.objectives and not named:
        raise RecipeRefused("all objectives have the weight 0")
    if not named:
        with_labels = labels > 0 and (not recipe.sources or "samples" in recipe.sources)
        default = DENSE_OBJECTIVES if dense else DEFAULT_OBJECTIVES
        named = {
            name: weight for name, weight in default.items() if (teacher_task if name in TEACHING else with_labels)
        }
    if not named:
        raise RecipeRefused(
            "there is neither a teacher's task module nor a labelled sample to learn from",
            code="samples_missing",
            hint="name teacher_task, or give labelled samples",
        )
    if "direct" in named and labels == 0:
        raise _missing("the objective direct needs labelled samples")
    if TEACHING & named.keys() and not teacher_task:
        raise RecipeRefused(
            f"the objectives {sorted(TEACHING & named.keys())} need the teacher's task module", hint="name teacher_task"
        )
    return named


def _sources(objectives: dict[Objective, float], at_hand: dict[Source, bool], *, dense: bool) -> tuple[Source, ...]:
    """All that is at hand; noise, unlike any real input, not where features of real inputs are plenty, unless they are dense.

    For dense outputs, an inversion stands beside images without labels too: it ends in images on which a student of these is
    wrong. Noise joins in only where there are no such images; a sketch guides the inversion: maps drawn from its moments have no objects, and its crops teach less than rounds of an inversion do. Where gradients come from
    linear stand-ins, features only tell how the teacher's outputs are spread, which noise tells wrongly: it is the last resort.
    """
    taught = TEACHING & objectives.keys()
    if not taught:
        return ("samples",)
    plenty = at_hand["unlabelled"] or at_hand["moments"]
    plenty = plenty or (taught == {"pseudo_gradient"} and at_hand["inversion"])
    left_out: set[Source] = {"crops", "noise"} if plenty else {"crops"}
    if dense and at_hand["unlabelled"]:
        left_out = {"moments", "crops", "noise"}
    elif dense:
        left_out = {"moments", "crops"} if at_hand["inversion"] else {"moments", "noise"} if at_hand["crops"] else set()
    return tuple(source for source, there in at_hand.items() if there and source not in left_out)


_NEEDS: dict[Source, str] = {
    "samples": "labelled samples",
    "unlabelled": "a set of unlabelled images",
    "inversion": "batch norm in the category or the teacher's task module",
    "moments": "a sketch in the category's file",
    "crops": "crops of feature maps in the category's sketch",
}
_INSTEAD: dict[Source, str] = {
    "inversion": "take the source noise or unlabelled instead",
    "moments": "its owner adds one with `graftery push --sketch IMAGES`; or take another source",
    "crops": "its owner adds them with `graftery push --sketch IMAGES --sketch-crops N`; or take another source",
}


def _check_sources(
    sources: tuple[Source, ...], objectives: dict[Objective, float], at_hand: dict[Source, bool]
) -> None:
    if len(set(sources)) < len(sources):
        raise RecipeRefused(f"a source is named twice: {list(sources)}")
    for source in sources:
        if at_hand[source]:
            continue
        missing = f"the source {source} needs {_NEEDS[source]}"
        if source in ("samples", "unlabelled"):
            raise _missing(missing)
        raise RecipeRefused(missing, hint=_INSTEAD[source])
    if "direct" in objectives and "samples" not in sources:
        raise RecipeRefused("the objective direct needs the source samples")
    if sources != ("samples",) and not TEACHING & objectives.keys():
        raise RecipeRefused("direct learns from labelled samples only: the other sources teach nothing without gT")
