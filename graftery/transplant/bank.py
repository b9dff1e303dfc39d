"""The bank: features made once, with what the teacher says of them, and drawn from at every step.

f, gT and gT's gradients do not change while h learns: to compute them anew at each step is most of the cost of a step.

Shapes: R rows of the bank, B rows of a batch.
Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from graftery.data.placing import onto
from graftery.data.streams import generator
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import objectives
from graftery.transplant.sources import Batch, Batches, shares

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Bank:
    """Batches drawn from stored rows: equal parts from every source, as `Batches` makes them.

    Args:
        groups: the rows of each source; the labelled ones first.
        recipe: seed and size of a batch.
    """

    groups: tuple[Batch, ...]
    recipe: TransplantRecipe

    def __call__(self, step: int) -> Batch:
        counts = shares(self.recipe.batch, len(self.groups))
        random = generator(self.recipe.seed, "bank", step)
        drawn = [
            _rows(group, torch.randint(len(group.features), (count,), generator=random))
            for group, count in zip(self.groups, counts, strict=True)
        ]
        return _joined(drawn)

    @classmethod
    def of(cls, batches: Batches, teacher: nn.Module | None, recipe: TransplantRecipe) -> Callable[[int], Batch]:
        """The bank of these batches; the batches themselves where too few rows would fit into the recipe's memory.

        Args:
            batches: make the rows.
            teacher: gT; None: nobody is asked.
            recipe: complete.
        """
        ask = Teacher(teacher, recipe)
        first = ask(batches(0), 0)
        fitting = recipe.bank.mebibytes * MEBIBYTE // _row_bytes(first)
        steps = min(recipe.bank.rows, fitting) // recipe.batch
        if steps < 2:
            return batches
        made = [first, *(ask(batches(step), step) for step in range(1, steps))]
        counts = shares(recipe.batch, batches.parts)
        starts = [sum(counts[:index]) for index in range(len(counts))]
        groups = [
            _joined([_rows(batch, torch.arange(start, start + count)) for batch in made])
            for start, count in zip(starts, counts, strict=True)
            if count
        ]
        return cls(tuple(groups), recipe)


@dataclass(frozen=True)
class Teacher:
    """What gT says of a batch: outputs, a direction for each row, and the gradient in that direction."""

    net: nn.Module | None
    recipe: TransplantRecipe

    def __call__(self, batch: Batch, step: int) -> Batch:
        if self.net is None:
            return batch
        jacobian = "back_distillation" in self.recipe.objectives
        features = batch.features.detach().requires_grad_(jacobian)
        with torch.set_grad_enabled(jacobian):
            output = self.net(features)
        if not jacobian:
            return Batch(batch.features, batch.labels, output)
        direction = objectives.directions(output, generator(self.recipe.seed, "direction", step))
        gradient = objectives.input_gradient(output, features, direction, create_graph=False)
        return Batch(batch.features, batch.labels, output.detach(), direction, gradient)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    named = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in named.items() if value is not None}


def _rows(batch: Batch, index: Tensor) -> Batch:
    """Rows of a batch. Labels belong to its first rows: rows beyond them have none."""
    named = _tensors(batch)
    labels = named.pop("labels", None)
    taken = {name: value[onto(index, value.device)] for name, value in named.items()}
    if labels is not None and int(index.max()) < len(labels):
        taken["labels"] = labels[onto(index, labels.device)]
    return Batch(**taken)


def _joined(batches: list[Batch]) -> Batch:
    named = [_tensors(batch) for batch in batches]
    names = dict.fromkeys(name for tensors in named for name in tensors)
    return Batch(**{name: torch.cat([tensors[name] for tensors in named if name in tensors]) for name in names})


def _row_bytes(batch: Batch) -> int:
    tensors = [value for name, value in _tensors(batch).items() if name != "labels"]
    return max(1, sum(value[0].numel() * value.element_size() for value in tensors))
