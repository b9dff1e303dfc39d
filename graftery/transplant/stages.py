"""The stages of one transplant: nets in their place, images of an inversion, h learned, its file and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from graftery.data.samples import choose
from graftery.errors import RecipeRefused
from graftery.learning.loop import Loop, Progress
from graftery.module import ModuleFile, trace
from graftery.nn.layout import lie_as
from graftery.spec.manifest import OutputMeaning
from graftery.spec.plan import complete
from graftery.spec.recipes import AGREEMENT_IMAGES, WATCHED_IMAGES, Source, TransplantRecipe
from graftery.transplant.bank import Bank
from graftery.transplant.choosing import HELD_OUT_STEP, best_json, learn_best, score, told_json
from graftery.transplant.crops import CROPS, from_crops, whole_size
from graftery.transplant.evaluation import agreement, judge
from graftery.transplant.fitting import Ends, ends_of
from graftery.transplant.given import SKETCH, Given, with_final_relu
from graftery.transplant.guidance import Guidance
from graftery.transplant.inversion import Inversion
from graftery.transplant.inverted import InversionCache, inversion_key
from graftery.transplant.layout import laid_out
from graftery.transplant.matched import matched_features
from graftery.transplant.nets import Composed, Nets
from graftery.transplant.opgraph import batch_norms, op_graph
from graftery.transplant.rounds import Rounds
from graftery.transplant.sources import Batch, Batches, Draw, Noise, from_images, from_moments, from_samples
from graftery.transplant.training import train
from graftery.transplant.units import Units
from graftery.transplant.watching import watch


@dataclass(frozen=True)
class Run:
    """One transplant: nets on their device, the complete recipe, and noise shaped like f's input."""

    given: Given
    recipe: TransplantRecipe
    nets: Nets
    noise: Noise
    example: Tensor
    """Features [2, ...] of noise, whose shape the adapter is made for."""
    ends: Ends
    kept: InversionCache | None = None

    @classmethod
    def of(cls, given: Given, recipe: TransplantRecipe, device: torch.device) -> Run:
        files = [given.category, given.task, given.teacher_task]
        nets = Nets(*(None if file is None else file.net().to(device) for file in files))  # type: ignore[arg-type]
        shape, features = given.input_shape(), given.features_shape()
        given.check_features(features)
        recipe = complete(
            recipe,
            labels=given.samples.labels if given.samples is not None else 0,
            unlabelled=given.unlabelled is not None,
            teacher_task=nets.teacher is not None,
            batch_norm=any(batch_norms(net) for net in (nets.category, nets.teacher) if net is not None),
            # By default left out where it is of features of another size; refused where it was asked for.
            sketch=given.is_sketched(features) or ("moments" in recipe.sources and SKETCH in given.category.extras),
            dense=given.meaning.semantics == "segmentation",
            image_input=len(shape) == 3,
            crops=CROPS in given.category.extras,
        )
        given.check_taught(recipe)
        given.check_sketch(recipe, features)
        noise = Noise(shape, given.category.manifest.preprocessing, recipe)
        inputs = noise(8, "example").to(device)
        example = nets.features(inputs)
        recipe = given.with_start(with_final_relu(recipe, example, len(given.task.manifest.input.shape)))
        run = cls(given, recipe, nets, noise, example[:2], ends_of(given, features, recipe))
        run = replace(run, example=laid_out(nets, run._adapter(recipe), inputs[:2]))
        student = Composed(nets.category, run._adapter(recipe), nets.task)
        teacher = None if nets.teacher is None else Composed(nets.category, None, nets.teacher)
        given.check_sizes(recipe, student, teacher, device)
        return run

    @property
    def device(self) -> torch.device:
        return self.example.device

    def learn(self, hooks: Loop) -> tuple[nn.Module, TransplantRecipe, dict[str, Any]]:
        """Make the images of an inversion if the recipe has one, then train; of several depths, keep the best.

        Returns:
            h; the recipe that gives it, without a choice; `steps`, `watched`, and `choice`, if there was one.
        """
        images, start = self._inverted(hooks) if "inversion" in self.recipe.sources else (None, {})
        kept = {} if images is None else {"images": images.cpu()}
        loop = hooks.phase_of("train", kept)
        semantics = self.given.meaning.semantics
        batches = self._batches(images)
        rows = Bank.of(batches, self.nets.teacher, self.recipe)

        def one(recipe: TransplantRecipe, adapter: nn.Module, loop: Loop) -> int:
            return self._train(adapter, rows, recipe, loop, self._watched(adapter))

        if not self.recipe.adapter.choose:
            adapter = self._adapter(self.recipe)
            adapter.load_state_dict(start or adapter.state_dict())
            steps = one(self.recipe, adapter, loop)
            return adapter, self.recipe, told_json(self.recipe, steps, loop.scores)
        held_out = self._held_out(batches)
        agreeing = partial(score, self.nets, held_out, semantics)
        best, scores = learn_best(self.recipe, one, self._adapter, agreeing, loop)
        told = told_json(best.recipe, best.steps, best.watched)
        return best.adapter, best.recipe, told | {"choice": best_json(best.recipe, scores)}

    def _adapter(self, recipe: TransplantRecipe) -> nn.Module:
        return lie_as(self.ends.adapter(recipe).to(self.device), self.example)

    def _held_out(self, batches: Batches) -> Tensor:
        """Half of the sources' own, drawn anew, half of noise. Of images that are given or were made once, new views: they were learned from."""
        drawn = replace(batches, size=AGREEMENT_IMAGES)(HELD_OUT_STEP).features
        noise = self._noise_features(AGREEMENT_IMAGES, "choice")
        # Crops may be smaller than noise's maps.
        return torch.cat([drawn, noise]) if drawn.shape == noise.shape else drawn

    def _noise_features(self, count: int, stream: str, step: int = 0) -> Tensor:
        if not self.recipe.noise.matched:
            return self.nets.features(self.noise(count, stream, step).to(self.device))
        return matched_features(self._category, self.noise, count, stream, step)

    @cached_property
    def _category(self) -> fx.GraphModule:
        """f as a graph of operators."""
        return op_graph(self.nets.category, self.noise(2, "example").to(self.device))

    def _watched(self, adapter: nn.Module) -> Callable[[], float] | None:
        """What should rise while h learns. Where no term is about outputs, outputs do not tell; nor noise, where h learns crops."""
        if "distillation" not in self.recipe.objectives or "crops" in self.recipe.sources:
            return None
        return watch(self.nets, adapter, self._noise_features(WATCHED_IMAGES, "watch"), self.given.meaning.semantics)

    def _inverted(self, hooks: Loop) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Images, and where h starts: as the student of their rounds, unless the recipe names a depth of its own for that one."""
        if self.nets.teacher is None:
            raise RecipeRefused("the source inversion needs the teacher's task module")
        start = self.noise(self.recipe.inversion.images, "inversion").to(self.device)
        invert = Inversion(
            self._category,
            op_graph(self.nets.teacher, self.example),
            self.given.meaning.semantics,
            self.noise.preprocessing,
            self.recipe,
            Guidance.of_category(self.given.category.extras, self.example, self.given.meaning.semantics),
        )
        first = partial(self._first_images, invert)
        images, rival = Rounds(invert, first, self.nets.task, self._adapter, self._teach_rival, self.recipe)(
            start, hooks
        )
        return images, rival if self.recipe.inversion.rival_layers is None else {}

    def _first_images(self, invert: Inversion, start: Tensor, loop: Loop) -> Tensor:
        # What goes on from a checkpoint may have been begun by another device or number of threads: it is nobody else's.
        if self.kept is None or loop.resume is not None:
            return invert(start, loop)
        key = inversion_key(self.given, self.recipe, self.nets, self.example)
        return self.kept.images(key, lambda: invert(start, loop)).to(start.device)

    def _teach_rival(self, recipe: TransplantRecipe, rival: nn.Module, images: Tensor, loop: Loop) -> None:
        self._train(rival, Bank.of(self._batches(images), self.nets.teacher, recipe), recipe, loop)

    def _train(
        self,
        adapter: nn.Module,
        rows: Callable[[int], Batch],
        recipe: TransplantRecipe,
        loop: Loop,
        score: Callable[[], float] | None = None,
    ) -> int:
        semantics, samples = self.given.meaning.semantics, self.given.samples
        units = Units.of(semantics, None if samples is None else samples.y, self.nets.teacher, rows)
        return train(self.nets, adapter, rows, recipe=recipe, semantics=semantics, loop=loop, score=score, units=units)

    def _batches(self, images: Tensor | None) -> Batches:
        recipe, device = self.recipe, self.device
        draws: dict[Source, Draw] = {}
        if "samples" in recipe.sources and self.given.samples is not None:
            by_class = self.given.meaning.semantics == "classification"
            chosen = choose(self.given.samples, recipe.labels or 0, recipe.seed, by_class=by_class)
            draws["samples"] = from_samples(chosen, "samples", recipe, device, balanced=by_class)
        if "unlabelled" in recipe.sources and self.given.unlabelled is not None:
            draws["unlabelled"] = from_images(self.given.unlabelled.x, "unlabelled", recipe, device)
        if images is not None:
            draws["inversion"] = from_images(images, "inverted", recipe, device)
        features: dict[Source, Draw] = {}
        if "noise" in recipe.sources and recipe.noise.matched:
            features["noise"] = lambda step, count: (self._noise_features(count, "noise", step), None)
        elif "noise" in recipe.sources:
            draws["noise"] = self.noise.draw(device)
        if "moments" in recipe.sources:
            features["moments"] = from_moments(self.given.category.extras, recipe, device)
        if "crops" in recipe.sources:
            student, teacher = nn.Sequential(self._adapter(self.recipe), self.nets.task), self.nets.teacher
            alone = (student, teacher) if self.recipe.sources == ("crops",) and teacher is not None else None
            size = whole_size(self.given.category.extras, self.example, alone)
            features["crops"] = from_crops(self.given.category.extras, size, recipe, device)
        return Batches(draws, features, self.nets.features, recipe.batch)

    def file(self, adapter: nn.Module) -> ModuleFile:
        """h as a module file, with its lineage and its recipe."""
        meanings = {"features": OutputMeaning(semantics="feature")}
        metadata = {"recipe": self.recipe.model_dump_json()}
        adapter = adapter.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        traced = trace(adapter, self.example.contiguous(), kind="adapter", outputs=meanings, metadata=metadata)
        return replace(traced, manifest=traced.manifest.model_copy(update={"parents": self.given.parents}))

    def measure(self, adapter: nn.Module, hooks: Loop) -> dict[str, Any]:
        """The metrics of student, identity adapter and teacher, and the agreement on fresh noise."""
        nets, category = self.nets, self.nets.category
        adapter.eval()
        wanted: Mapping[str, nn.Module | None] = {
            "adapter": Composed(category, adapter, nets.task),
            "identity": Composed(category, None, nets.task) if self.ends.same else None,
            "teacher": Composed(category, None, nets.teacher) if nets.teacher is not None else None,
        }
        samples, meaning = self.given.evaluate_on, self.given.meaning
        found: dict[str, Any] = dict.fromkeys(wanted)
        if samples is not None:
            found = judge(wanted, samples, meaning, seed=self.recipe.seed, device=self.device)
        found["agreement"] = None
        if nets.teacher is not None and meaning.semantics == "classification":
            features = nets.features(self.noise(AGREEMENT_IMAGES, "agreement").to(self.device))
            found["agreement"] = agreement(nn.Sequential(adapter, nets.task), nets.teacher, features)
        done = Progress("evaluate", 1, 1, 0.0)
        hooks.note(done)
        hooks.tell(done)
        return found
