"""The public door: a source, a target and a few images in, a clone out.

Shapes: n images, K the target's classes, k the wanted ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from graftery.cloning.attaching import opened
from graftery.cloning.channels import Channels
from graftery.cloning.given import check_sets
from graftery.cloning.healing import healed
from graftery.cloning.insertion import Extension, Seen, as_clone, class_loss, insert
from graftery.cloning.jointly import joint_scores
from graftery.cloning.judging import judge
from graftery.cloning.local import Local, effective, local_set
from graftery.cloning.localization import Localized, Wanted, localize, part_of
from graftery.cloning.mixing import mixed
from graftery.cloning.positions import Position, above, positions
from graftery.cloning.seeing import Look, look
from graftery.cloning.slicing import sliced, with_linear_end
from graftery.cloning.stages import Stages
from graftery.cloning.taps import outputs
from graftery.data.samples import SampleSet
from graftery.errors import Misfit
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Phase, Progress
from graftery.learning.repeating import repeatable
from graftery.module import ModuleFile
from graftery.spec.cloning import check_inputs, classes_of, wanted_indices
from graftery.spec.manifest import CloneSpec, Parent
from graftery.spec.recipes import CloneRecipe


@dataclass(frozen=True)
class Cloned:
    """What a cloning gives.

    Args:
        clone: a file of kind "clone"; `graftery.cloning.attach` puts it into its target.
        masked: what was kept of the source, with the logits of all its classes.
        recipe: what was done.
        metrics: JSON, see `graftery.cloning.judging.judge`; `positions` has the held-out loss of each place that was tried.
        history: about fifty entries a phase: phase, step and loss.
    """

    clone: ModuleFile
    masked: ModuleFile
    recipe: CloneRecipe
    metrics: dict[str, Any]
    history: list[dict[str, float | int | str]] = field(default_factory=list)


def clone(
    source: ModuleFile,
    target: ModuleFile,
    samples: SampleSet,
    wanted: Sequence[str],
    *,
    recipe: CloneRecipe = CloneRecipe(),  # noqa: B008  immutable
    evaluate_on: SampleSet | None = None,
    source_evaluate_on: SampleSet | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Callable[[Checkpoint], None] | None = None,
    resume: Checkpoint | None = None,
) -> Cloned:
    """Copy some classes of a source into a clone that a target can carry. Neither net changes by a bit.

    Args:
        source: S, a whole net with a probe and one output: the logits [N, K_S].
        target: T, the same with [N, K]. If it has clones already, the new one is made beside them, for the target itself.
        samples: the local set; y is int64 [n], T's classes from 0 (its clones' among them), then the wanted ones.
        wanted: names of S's classes (`class 3` where it has none), in the order of the clone's logits.
        recipe: how.
        evaluate_on: samples to measure on, labelled as the local set; never trained on.
        source_evaluate_on: samples of the source's own classes, labelled as its logits are, to measure what else was cloned.
        device: where to train. The same recipe, seed, device and number of threads give the same bytes.
        progress: called at most ten times a second; may raise to stop.
        checkpoint: called after each stage: localization, healing, each position that is tried.
        resume: a checkpoint of the same cloning; the clone is the one that an unbroken run gives.

    Raises:
        Misfit: `shape_mismatch`, `preprocessing_mismatch`, `semantics_mismatch`, `class_known`, `position_invalid`, `localization_failed`.
        RecipeRefused: `recipe_invalid`, `class_unknown`, `position_invalid`.
        SamplesRefused: `samples_invalid`, `samples_missing`.
        TrainingFailed: `diverged`.

    Source: Ye et al. 2023; what is reconstructed and what is ours: docs/methods/cloning.md.
    """
    recipe = effective(recipe)
    check_inputs(source.manifest, target.manifest)
    indices = wanted_indices(source.manifest, target.manifest, wanted)
    check_sets(source, target, wanted, samples, evaluate_on=evaluate_on, source_evaluate_on=source_evaluate_on)
    preprocessing = target.manifest.preprocessing or source.manifest.preprocessing
    local = local_set(samples, classes_of(target.manifest), wanted, recipe, preprocessing)
    with repeatable(torch.device(device)):
        run = _Run(with_linear_end(source), target, local, tuple(wanted), indices, recipe, torch.device(device))
        mark = _fingerprint(source, target, local, wanted, recipe)
        stages = Stages(progress, checkpoint, resume, mark)
        localized = run.localized(stages)
        places = positions(opened(target)[0], localized.file, recipe.positions)
        scores = run.search(localized, places, stages)
        best = scores[0] if len(scores) == 1 else min(scores, key=lambda each: each["held_out_loss"])
        place = Position(best["target"], best["source"])
        if recipe.joint:
            localized = run.jointly(localized, place, stages)
        shown = run.look(run.views(local), [place], localized.file)
        made = run.file(source, place, as_clone(*run.inserted(localized, place, shown, stages)))
        told = {"position": asdict(place), "positions": scores, "kept": localized.kept}
        metrics = told | judge(
            source,
            target,
            made,
            masked=localized.whole,
            wanted=indices,
            evaluate_on=evaluate_on,
            source_evaluate_on=source_evaluate_on,
        )
    return Cloned(made, localized.whole, recipe, metrics, stages.history)


@dataclass(frozen=True)
class _Run:
    source: ModuleFile
    target: ModuleFile
    local: Local
    wanted: tuple[str, ...]
    indices: tuple[int, ...]
    recipe: CloneRecipe
    device: torch.device

    def localized(self, stages: Stages) -> Localized:
        """The part of the source that the wanted classes need, healed.

        Raises:
            Misfit: `localization_failed`; too little is left of the skill.
        """
        views = self.local.views(self.recipe, "localize")
        found = localize(self.source, self.indices, views, recipe=self.recipe, stages=stages, device=self.device)
        return self._healed(found, views, stages)

    def jointly(self, found: Localized, place: Position, stages: Stages) -> Localized:
        """The same, by gates that learn on together with what joins the clone to the target at this place."""
        if not found.gates.roots or self.recipe.keep == 1:
            return found
        views = self.local.views(self.recipe, "localize")
        seen = self.look(views, [place], self.source).at(place)
        wanted = Wanted.of(found.gates, self.indices, views, self.device)
        scores = joint_scores(
            found.gates,
            found.scores.to(self.device),
            wanted,
            seen,
            place.source,
            recipe=self.recipe,
            stages=stages,
        )
        made = part_of(found.gates, scores, self.indices, views, self.recipe)
        return self._healed(made, views, stages)

    def _healed(self, found: Localized, views: Local, stages: Stages) -> Localized:
        whole = healed(
            found.whole,
            self.source,
            self.indices,
            views,
            recipe=self.recipe,
            stages=stages,
            device=self.device,
        )
        made = replace(found, whole=whole, file=sliced_to(whole, self.indices))
        self._check_kept(made, self.local.take(self.local.wanted))
        return made

    def _check_kept(self, made: Localized, shown: Local) -> None:
        truth = torch.tensor(self.indices)[shown.y - self.local.known]
        before, after = (
            (outputs(net, shown.x, self.device).argmax(1).cpu() == truth).float().mean().item()
            for net in (self.source, made.whole)
        )
        if before - after > self.recipe.tolerance:
            raise Misfit(
                f"of the wanted classes' images the source knows {before:.0%}, what is left of it {after:.0%}",
                code="localization_failed",
                hint=f"keep more than {self.recipe.keep:g} of its channels, or give more images of these classes",
            )

    def search(self, localized: Localized, places: Sequence[Position], stages: Stages) -> list[dict[str, Any]]:
        """The held-out loss of each position, in their order; of one alone, which is not tried, None."""
        if len(places) == 1:
            return [{"target": places[0].target, "source": places[0].source, "held_out_loss": None}]
        fit, held = self.local.split(self.recipe.held_out, self.recipe.seed)
        learned_on, judged_on = (self.look(part, places, localized.file) for part in (self.views(fit), held))
        found = []
        for place in places:
            made, _ = self.inserted(localized, place, learned_on, stages, "search")
            seen = judged_on.at(place)
            with torch.no_grad():
                new, _ = made(seen.z, seen.last)
                loss = balanced(seen, new)
                right = (torch.cat([seen.old, new], 1).argmax(1) == seen.y).float()
            shown = seen.y >= 0
            found.append(
                {
                    "target": place.target,
                    "source": place.source,
                    "held_out_loss": loss,
                    "held_out_accuracy": right[shown].mean().item() if bool(shown.any()) else None,
                }
            )
        return found

    def inserted(
        self, localized: Localized, place: Position, shown: Look, stages: Stages, phase: Phase = "train"
    ) -> tuple[Extension, Seen]:
        """What joins the clone to the target at a place, learned on these images."""
        seen = shown.at(place)
        _, behind = above(localized.file, place.source)
        return insert(behind, seen, self.recipe, stages, phase), seen

    def views(self, local: Local) -> Local:
        """What is learned on to insert a clone, of these images."""
        return mixed(local.views(self.recipe, "insert"), self.recipe.mixed, self.recipe.seed)

    def look(self, local: Local, places: Sequence[Position], part: ModuleFile) -> Look:
        """What both nets make of images that clones of this part of the source are inserted with at these places."""
        return look(self.source, self.target, self.indices, local, places=places, part=part, device=self.device)

    def file(self, source: ModuleFile, place: Position, made: ModuleFile) -> ModuleFile:
        """The clone, with what it is of and where it goes in."""
        bare = opened(self.target)[0]
        spec = CloneSpec(
            target=bare.content_digest,
            source=source.content_digest,
            position=place.target,
            origin=place.source,
            keep=self.recipe.keep,
            classes=self.wanted,
        )
        ((name, output),) = made.manifest.outputs.items()
        named = {name: output.model_copy(update={"class_names": self.wanted})}
        parents = (
            Parent(role="source", digest=spec.source),
            Parent(role="target", digest=spec.target),
            Parent(role="samples", digest=_digest(self.local)),
        )
        changed = {"kind": "clone", "clone": spec, "outputs": named, "parents": parents, "preprocessing": None}
        metadata = {"recipe": self.recipe.model_dump_json()}
        return replace(made, manifest=made.manifest.model_copy(update={**changed, "metadata": metadata}))


def balanced(seen: Seen, new: Tensor) -> float:
    """The loss of held-out images, wanted and original ones counting half each."""
    wanted = seen.y >= seen.known
    halves = [class_loss(seen.old[rows], new[rows], seen.y[rows]) for rows in (wanted, ~wanted)]
    return float(torch.stack(halves).mean())


def sliced_to(whole: ModuleFile, classes: Sequence[int]) -> ModuleFile:
    """A net with the logits of these classes alone."""
    return sliced(whole, Channels.of(whole), (), classes)


def _fingerprint(
    source: ModuleFile, target: ModuleFile, local: Local, wanted: Sequence[str], recipe: CloneRecipe
) -> str:
    """Of everything that the result depends on."""
    said = [source.content_digest, target.content_digest, _digest(local), *wanted, recipe.model_dump_json()]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _digest(local: Local) -> str:
    digest = hashlib.sha256()
    for tensor in (local.x, local.y):
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
