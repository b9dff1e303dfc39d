"""What was handed in for a transplant: checks, sizes, and the fingerprint that ties a checkpoint to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graftery.data.samples import SampleSet, choose
from graftery.errors import RecipeRefused, SamplesRefused, ShapesRefused, refusing
from graftery.module import ModuleFile
from graftery.module.fakes import output_shapes
from graftery.module.samples import label_facts
from graftery.nn.adapters import Shape, alike
from graftery.spec import labels
from graftery.spec.fit import check_join, output_of
from graftery.spec.groups import check_one_group
from graftery.spec.manifest import OutputSpec, Parent, TensorSpec
from graftery.spec.recipes import ADAPTER_NOISE, TransplantRecipe
from graftery.transplant.evaluation import check_labels, check_pixels

SKETCH = "sketch.mean"
"""The tensor of a category's file without which there is no sketch."""


@dataclass(frozen=True)
class Given:
    """The modules and samples of a transplant.

    Raises:
        Misfit: `shape_mismatch`, `kind_mismatch`. Preprocessing and meanings are the service's to refuse, before a job.
        SamplesRefused: samples that do not fit f's input or the output's meaning.
    """

    category: ModuleFile
    task: ModuleFile
    teacher_task: ModuleFile | None = None
    samples: SampleSet | None = None
    unlabelled: SampleSet | None = None
    evaluate_on: SampleSet | None = None

    def __post_init__(self) -> None:
        teacher = self.teacher_task.manifest if self.teacher_task is not None else None
        check_join(self.category.manifest, self.task.manifest, teacher, with_adapter=True, force=True)
        for name in ("samples", "unlabelled", "evaluate_on"):
            samples = getattr(self, name)
            if samples is not None:
                _check_inputs(name, samples, self.category.manifest.input)
        if len({tuple(samples.x.shape[1:]) for samples in self._sets}) > 1:
            raise SamplesRefused(
                "the sample sets have inputs of different sizes", hint="resize them to one size, or leave a set out"
            )
        if self.samples is not None and self.samples.y is None:
            raise SamplesRefused(
                "the samples have no labels", code="samples_missing", hint="give them y, or give them as unlabelled"
            )
        if self.evaluate_on is not None and self.evaluate_on.y is None:
            raise SamplesRefused("the samples to measure on have no labels", code="samples_missing", hint="give them y")
        for name in ("samples", "evaluate_on"):
            labelled = getattr(self, name)
            if labelled is not None:
                check_labels(labelled, self.meaning, name)
        if self.evaluate_on is not None and self.evaluate_on.y is not None:
            labels.check_measured(label_facts(self.evaluate_on.y), self.meaning, "evaluate_on")

    def check_taught(self, recipe: TransplantRecipe) -> None:
        """Refuse labelled samples that `direct` cannot learn from.

        Args:
            recipe: complete.

        Raises:
            SamplesRefused: `samples_invalid`; they, or those of them that are chosen, are of one class.
        """
        if "direct" in recipe.objectives and self.samples is not None and self.samples.y is not None:
            used = recipe.labels or 0
            labels.check_taught(label_facts(self.samples.y), self.meaning, "samples", used)
            if self.meaning.semantics == "segmentation":
                masks = choose(self.samples, used, recipe.seed, by_class=False).y
                what = f"the {used} samples that the seed {recipe.seed} chooses"
                labels.check_taught(None if masks is None else label_facts(masks), self.meaning, what, used)

    def check_sizes(
        self, recipe: TransplantRecipe, student: nn.Module, teacher: nn.Module | None, device: torch.device
    ) -> None:
        """Refuse what a manifest with free sizes does not tell: inputs that h does not take, labels of another resolution.

        Args:
            recipe: complete.
            student: gS(h(f(x))), for an h that is made for inputs of `input_shape`.
            teacher: gT(f(x)), which is measured beside the student.
            device: where they are.

        Raises:
            SamplesRefused: `samples_invalid`.
        """
        dense, shape = len(self.meaning.shape) > 2, self.input_shape()
        learned = self.samples if "direct" in recipe.objectives else None
        for name, samples in (("samples", learned), ("evaluate_on", self.evaluate_on)):
            if samples is None or samples.y is None or (not dense and samples.x.shape[1:] == shape):
                continue
            output = _taken(student, samples.x[:2].to(device), name, f"an adapter for {list(shape)}")
            if dense:
                check_pixels(samples.y, output, name)
            if teacher is None or name != "evaluate_on":
                continue
            output = _taken(teacher, samples.x[:2].to(device), name, "the teacher")
            if dense:
                check_pixels(samples.y, output, name, "the teacher's output")

    @property
    def _sets(self) -> list[SampleSet]:
        return [each for each in (self.samples, self.unlabelled, self.evaluate_on) if each is not None]

    @property
    def meaning(self) -> OutputSpec:
        """The output's spec: gS's."""
        return output_of(self.task.manifest)

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The lineage of the adapter, by content digests."""
        category = Parent(role="category", digest=self.category.content_digest)
        task = Parent(role="task", digest=self.task.content_digest)
        if self.teacher_task is None:
            return category, task
        return category, task, Parent(role="teacher_task", digest=self.teacher_task.content_digest)

    def with_start(self, recipe: TransplantRecipe) -> TransplantRecipe:
        """What the adapter's first weights are, where that is not named: f and gS of one group need nothing but the identity."""
        if recipe.adapter.noise is not None:
            return recipe
        shared = check_one_group(self.category.manifest, self.task.manifest, force=True)
        adapter = recipe.adapter.model_copy(update={"noise": 0.0 if shared else ADAPTER_NOISE})
        return recipe.model_copy(update={"adapter": adapter})

    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input; a free height or width is that of what is learned from, else of f's probe.

        What is only measured on is asked last: h does not depend on it where anything else tells the size.

        Raises:
            RecipeRefused: a free size that nothing tells.
        """
        probe = self.category.extras.get("probe.x")
        sets = [None if each is None else each.x for each in (self.samples, self.unlabelled)]
        last = None if self.evaluate_on is None else self.evaluate_on.x
        for known in (*sets, probe, last):
            if known is not None:
                return tuple(known.shape[1:])
        shape = self.category.manifest.input.shape[1:]
        if any(isinstance(size, str) for size in shape):
            raise RecipeRefused(f"the input's size {list(shape)} is free: give samples, so that the size is known")
        return tuple(int(size) for size in shape)

    def features_shape(self) -> tuple[int, ...]:
        """The shape of f's features of one input of `input_shape`.

        Raises:
            SamplesRefused: `samples_invalid`; f leaves its input's size free, but does not take this one.
        """
        shape, f = self.input_shape(), self.category
        try:
            (found,) = output_shapes(f.graph, f.weights, (2, *shape)).values()
        except ShapesRefused as error:
            raise SamplesRefused(
                f"the category module does not run on inputs of {list(shape)}: {error.message}",
                hint="give larger ones, or of the size that it was trained on",
            ) from None
        return found[1:]

    def is_sketched(self, features: tuple[int, ...]) -> bool:
        """Whether f's file has a sketch of features of this size, as inputs of another size than its owner's have not."""
        mean = self.category.extras.get(SKETCH)
        return mean is not None and mean.shape == features

    def check_sketch(self, recipe: TransplantRecipe, features: tuple[int, ...]) -> None:
        """Refuse to draw features of another size than those that inputs give, beside which they would stand.

        Args:
            recipe: complete.

        Raises:
            RecipeRefused: `recipe_invalid`.
        """
        if "moments" in recipe.sources and not self.is_sketched(features):
            sketched = list(self.category.extras[SKETCH].shape)
            raise RecipeRefused(
                f"the category's sketch is of features {sketched}, inputs of {list(self.input_shape())} give {list(features)}",
                hint="name sources without moments, or give inputs of the size that the sketch was made from",
            )

    def check_features(self, shape: tuple[int, ...]) -> None:
        """Refuse inputs of a free size that gives features [N, *shape] that gT does not take.

        Raises:
            SamplesRefused: `samples_invalid`.
        """
        if self.teacher_task is None:
            return
        wanted = self.teacher_task.manifest.input.shape[1:]
        if not all(isinstance(size, str) or size == got for size, got in zip(wanted, shape, strict=True)):
            raise SamplesRefused(
                f"inputs of {list(self.input_shape())} give features {list(shape)}, the teacher's task module takes"
                f" {list(wanted)}"
            )

    def adapter_shapes(self, features: tuple[int, ...]) -> tuple[Shape, Shape]:
        """What h maps from and to, for features [N, *features].

        Between features of one kind the sizes at hand decide how h is built. Between kinds a size that f leaves free stays
        free, so that h takes every size that f gives.
        """
        target = tuple(size if isinstance(size, int) else None for size in self.task.manifest.input.shape[1:])
        if alike(features, target) or len(features) != 3:
            return features, target
        stated = output_of(self.category.manifest).shape[1:]
        return tuple(got if isinstance(size, int) else None for size, got in zip(stated, features, strict=True)), target

    def fingerprint(self, recipe: TransplantRecipe) -> str:
        """sha256 of all that the adapter depends on.

        The digests of the modules are of what they compute. Beside that count f's preprocessing, which noise is made by, and
        its sketch; what the output means; and the size of an input, which may be that of f's probe.
        """
        digest = hashlib.sha256(recipe.model_dump_json().encode())
        preprocessing = self.category.manifest.preprocessing
        stated = "" if preprocessing is None else preprocessing.model_dump_json()
        digest.update(f"{list(self.input_shape())} {self.meaning.semantics} {stated}".encode())
        self._add_sketch(digest)
        for parent in self.parents:
            digest.update(f"{parent.role} {parent.digest}".encode())
        for samples in (self.samples, self.unlabelled):
            for tensor in (None, None) if samples is None else (samples.x, samples.y):
                digest.update(b"none" if tensor is None else _bytes(tensor))
        return digest.hexdigest()

    def sketch_digest(self) -> str:
        """sha256 of f's sketch; of nothing where it has none."""
        digest = hashlib.sha256()
        self._add_sketch(digest)
        return digest.hexdigest()

    def _add_sketch(self, digest: hashlib._Hash) -> None:
        for name in sorted(name for name in self.category.extras if name.startswith("sketch.")):
            sketched = self.category.extras[name]
            digest.update(f"{name} {sketched.dtype} {list(sketched.shape)}".encode())
            digest.update(_bytes(sketched))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _check_inputs(name: str, samples: SampleSet, wanted: TensorSpec) -> None:
    shape = wanted.shape[1:]
    got = samples.x.shape[1:]
    fits = len(got) == len(shape) and all(isinstance(b, str) or a == b for a, b in zip(got, shape, strict=True))
    if not fits or f"torch.{wanted.dtype}" != str(samples.x.dtype):
        raise SamplesRefused(
            f"{name} are {samples.x.dtype} {list(samples.x.shape)}, the category's input is {wanted.dtype}"
            f" [{', '.join(map(str, wanted.shape))}]",
            hint="bring the samples to that shape and type, preprocessed as the category's input",
        )


def _taken(net: nn.Module, x: Tensor, name: str, who: str) -> Tensor:
    """net(x), for inputs of the sample set `name`.

    Raises:
        SamplesRefused: `samples_invalid`; it does not take them.
    """
    hint = "resize them, or give unlabelled inputs of their size to learn from"
    says = f"{name} have inputs of {list(x.shape[1:])}; {who} does not take them"
    with torch.no_grad(), refusing(lambda _: SamplesRefused(says, hint=hint)):
        output: Tensor = net(x)
    return output


def with_final_relu(recipe: TransplantRecipe, features: Tensor, dimensions: int) -> TransplantRecipe:
    """ReLU after the last layer where f's features, on noise, are never negative, and gS takes features of that kind."""
    if recipe.adapter.final_relu is not None:
        return recipe
    final_relu = bool((features >= 0).all()) and features.ndim == dimensions
    adapter = recipe.adapter.model_copy(update={"final_relu": final_relu})
    return recipe.model_copy(update={"adapter": adapter})
