from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from graftery.cloning import localization
from graftery.cloning.healing import healed
from graftery.cloning.local import Local, local_set
from graftery.cloning.localization import Gates, Localized, collapsed, localize, to_learn
from graftery.cloning.mixing import mixed
from graftery.cloning.slicing import with_linear_end
from graftery.cloning.stages import Stages
from graftery.errors import Misfit
from graftery.learning.loop import Progress
from graftery.module import ModuleFile
from graftery.spec.recipes import CloneRecipe
from tests.support import skills

WANTED = (0, 1)
RECIPE = CloneRecipe()


def _source() -> ModuleFile:
    return with_linear_end(skills.net())


def _local() -> Local:
    return local_set(skills.local(2), skills.names(skills.TARGET), skills.names((5, 6)), RECIPE)


def _shown() -> torch.Tensor:
    return _local().x


CPU = torch.device("cpu")


@cache
def _localized(steps: int = 150) -> Localized:
    recipe = CloneRecipe(localization_steps=steps, keep=0.25)
    return localize(_source(), WANTED, _local(), recipe=recipe, stages=Stages(), device=CPU)


def _accuracy(file: ModuleFile, digits: tuple[int, ...], labels: tuple[int, ...]) -> float:
    samples = skills.images("validation", digits)
    assert samples.y is not None
    with torch.no_grad():
        found = file.net()(samples.x).argmax(1)
    return float((found == torch.tensor(labels)[samples.y]).float().mean())


def test_a_quarter_of_each_layer_is_kept() -> None:
    found = _localized()
    assert list(found.kept.values()) == [(4, 16), (4, 16), (8, 32), (8, 32)]
    assert found.whole.weights["0.0.weight"].shape[0] == 4
    size = sum(weight.numel() for weight in found.file.weights.values())
    assert size < 0.1 * sum(weight.numel() for weight in _source().weights.values())


def test_the_wanted_classes_are_kept_and_the_others_are_not() -> None:
    found = _localized()
    assert _accuracy(_source(), (5, 6), WANTED) > 0.9
    assert _accuracy(found.whole, (5, 6), WANTED) > 0.85
    assert _accuracy(found.whole, (7, 8, 9), (2, 3, 4)) < 0.5


def test_gates_that_learn_find_more_than_the_first_saliency() -> None:
    assert _accuracy(_localized(150).whole, (5, 6), WANTED) >= _accuracy(_localized(0).whole, (5, 6), WANTED)


@pytest.mark.parametrize("rows", [1, 32, 33, 34, 65])
def test_no_image_is_looked_at_alone_beside_others(rows: int) -> None:
    x = torch.randn(rows, 3)
    chunks = localization._chunks(x)
    assert torch.equal(torch.cat(chunks), x)
    assert rows == 1 or min(map(len, chunks)) > 1, "batch norms on vectors take no batch of one"


def test_the_source_does_not_change() -> None:
    before = skills.net().content_digest
    healed(
        _localized().whole,
        _source(),
        WANTED,
        _local(),
        recipe=CloneRecipe(healing_steps=3),
        stages=Stages(),
        device=CPU,
    )
    assert replace(skills.net(), weights=dict(skills.net().weights)).content_digest == before, "asked anew"


def test_with_all_kept_it_is_the_source() -> None:
    x = _shown()
    found = localize(_source(), WANTED, _local(), recipe=CloneRecipe(keep=1), stages=Stages(), device=CPU)
    with torch.no_grad():
        assert torch.equal(found.whole.net()(x), _source().net()(x))
        torch.testing.assert_close(found.file.net()(x), _source().net()(x)[:, list(WANTED)])


@pytest.mark.parametrize(("share", "kept"), [(0.01, 1), (0.25, 4), (0.26, 5), (0.3, 5), (1, 16)])
def test_a_share_is_at_least_one_and_rounded_up(share: float, kept: int) -> None:
    assert Gates.of(_source(), share).keep[0] == kept


def test_shut_gates_are_those_of_the_lowest_scores_of_each_layer() -> None:
    gates = Gates.of(_source(), 0.25)
    scores = torch.arange(len(gates.roots), dtype=torch.float32).requires_grad_()
    hard = gates.hard(scores)
    for places, keep in zip(gates.layers, gates.keep, strict=True):
        assert hard[places].tolist() == [0.0] * (len(places) - keep) + [1.0] * keep
    (gradient,) = torch.autograd.grad(hard.sum(), scores)
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_a_net_that_cannot_be_thinned_is_refused() -> None:
    flat = with_linear_end(skills.untrained(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), skills.SOURCE))
    with pytest.raises(Misfit) as caught:
        Gates.of(flat, 0.25)
    assert caught.value.code == "localization_failed"
    assert Gates.of(flat, 1).roots == ()


def test_healing_brings_the_masked_source_nearer_to_the_whole() -> None:
    """In what it says of the wanted classes; which of the others it is, nobody asked for."""
    told: list[Progress] = []
    masked = _localized(20).whole
    made = healed(masked, _source(), WANTED, _local(), recipe=RECIPE, stages=Stages(told.append), device=CPU)

    for x in (_shown(), skills.images("validation", skills.SOURCE).x):
        assert _far(made, x) < 0.3 * _far(masked, x)
    assert made.graph == masked.graph
    assert told[-1].step == RECIPE.healing_steps
    assert (
        healed(masked, _source(), WANTED, _local(), recipe=CloneRecipe(healing_steps=0), stages=Stages(), device=CPU)
        is masked
    )


def _far(file: ModuleFile, x: Tensor) -> float:
    """How far what a net says of the wanted classes is from what the source says."""
    with torch.no_grad():
        theirs, ours = (collapsed(each.net()(x), torch.tensor(WANTED)).log_softmax(1) for each in (_source(), file))
    return float((theirs.exp() * (theirs - ours)).sum(1).mean())


def test_healing_on_mixed_images_brings_it_nearer_between_the_images_too() -> None:
    masked = _localized(20).whole
    between = mixed(_local(), 1, seed=7).x[len(_local().x) :]
    plain, both = (
        healed(
            masked,
            _source(),
            WANTED,
            _local(),
            recipe=RECIPE.model_copy(update={"healing_mixed": count}),
            stages=Stages(),
            device=CPU,
        )
        for count in (0, 32)
    )
    assert _far(both, between) < 0.9 * _far(plain, between)


def test_other_classes_are_one_together() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    found = collapsed(logits, torch.tensor([2, 0])).softmax(1)
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.1, 0.6]]))
    torch.testing.assert_close(collapsed(logits, torch.arange(4)), logits)


class _Viewing(nn.Module):
    """Takes for granted that maps lie row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4 * 64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x).view(x.shape[0], -1))
        return logits


@pytest.mark.parametrize(("net", "layout"), [(_Viewing, torch.contiguous_format), (None, torch.channels_last)])
def test_channels_lie_side_by_side_where_a_net_lets_them(
    net: type[nn.Module] | None, layout: torch.memory_format
) -> None:
    source = _source() if net is None else with_linear_end(skills.untrained(net(), skills.SOURCE))
    local, recipe = _local(), CloneRecipe(localization_steps=2, healing_steps=2)
    assert to_learn(source, local.x, CPU)[2] == layout
    found = localize(source, WANTED, local, recipe=recipe, stages=Stages(), device=CPU)
    made = healed(found.whole, source, WANTED, local, recipe=recipe, stages=Stages(), device=CPU)
    assert all(weight.is_contiguous() for weight in made.weights.values())
    assert any(not torch.equal(made.weights[name], weight) for name, weight in found.whole.weights.items())
