from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graftery.data.noise import noise_images, value_bounds
from graftery.data.streams import generator
from graftery.learning.loop import Loop
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import NoiseRecipe, TransplantRecipe
from graftery.transplant.inversion import Inversion, class_loss, total_variation
from graftery.transplant.objectives import distillation
from graftery.transplant.opgraph import op_graph
from tests.support.transplants import PREPROCESSING, image_category, image_task

RECIPE = TransplantRecipe.model_validate({"inversion": {"images": 32, "steps": 60, "learning_rate": 0.1}})


def _inversion(semantics: Semantics = "classification", outputs: int = 1) -> Inversion:
    category = op_graph(image_category(), torch.randn(2, 1, 8, 8))
    teacher = op_graph(image_task(outputs=outputs), torch.rand(2, 4, 4, 4))
    return Inversion(category, teacher, semantics, PREPROCESSING, RECIPE)


def _start() -> torch.Tensor:
    return noise_images((32, 1, 8, 8), PREPROCESSING, NoiseRecipe(), generator(0, "start"))


def test_the_statistics_come_near_the_stored_ones() -> None:
    invert, start = _inversion(), _start()
    images = invert(start, Loop("inversion"))
    before, after = (float(invert.terms(x)["statistics"].detach()) for x in (start, images))
    assert after < 0.3 * before
    assert images.shape == start.shape
    assert not images.requires_grad


def test_images_stay_within_what_an_image_can_be() -> None:
    images = _inversion()(_start(), Loop("inversion"))
    low, high = value_bounds(PREPROCESSING, 1)
    assert bool((images >= low).all())
    assert bool((images <= high).all())


def test_the_images_are_of_balanced_classes() -> None:
    logits = torch.tensor([[-9.0], [9.0], [-9.0], [9.0]])
    assert float(class_loss(logits)) < 1e-3 < float(class_loss(-logits))
    many = 9 * torch.eye(3)[torch.tensor([0, 1, 2, 0])]
    assert float(class_loss(many)) < 1e-3 < float(class_loss(many.flip(0)))


def test_with_a_rival_the_images_come_to_where_it_differs_from_the_teacher() -> None:
    plain, start = _inversion(), _start()
    rival = image_task(seed=1)
    contest = replace(plain, rival=rival)
    assert set(contest.terms(start)) - set(plain.terms(start)) == {"rivalry"}

    def apart(images: torch.Tensor) -> float:
        with torch.no_grad():
            features = plain.category(images)
            return float(distillation(rival(features), plain.teacher(features), "classification", 2.0))

    assert apart(contest(start, Loop("inversion"))) > 1.2 * apart(plain(start, Loop("inversion")))


@pytest.mark.parametrize("semantics", ["regression", "segmentation"])
def test_only_classes_have_a_class_term(semantics: Semantics) -> None:
    terms = _inversion(semantics).terms(_start())
    assert set(terms) == {"statistics", "variation"}


def test_variation_is_the_mean_difference_of_neighbours() -> None:
    assert float(total_variation(torch.ones(2, 1, 4, 4))) == 0
    steps = torch.arange(4.0).repeat(4, 1).view(1, 1, 4, 4)
    assert float(total_variation(steps)) == 1


def test_the_inverted_nets_get_no_gradient_and_keep_their_statistics() -> None:
    invert = _inversion()
    before = [value.clone() for net in (invert.category, invert.teacher) for value in net.state_dict().values()]
    invert(_start(), Loop("inversion"))
    after = [value for net in (invert.category, invert.teacher) for value in net.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for net in (invert.category, invert.teacher) for p in net.parameters())
