from __future__ import annotations

from functools import partial

import pytest
import torch

from graftery.compat import Design, Task, Trained, found, recombine, train
from graftery.compat.recombination import accuracy, chance_of, check_group
from graftery.data import SampleSet
from graftery.errors import GrafteryError, Misfit, SamplesRefused, TrainingFailed
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Progress
from graftery.spec.groups import above, group_of
from graftery.spec.recipes import CompatRecipe
from tests.support.compatible import COMMON, DESIGN, A, B, Net, images, task

QUICK = CompatRecipe(epochs=1, batch=32)
X = images()[0][:4]


def _few(name: str, classes: tuple[int, ...], design: Design = DESIGN) -> Task:
    return task(name, classes, most=96, test=False, design=design)


def _recombined(trained: Trained, *tasks: Task) -> float:
    tests = {each.name: each.test for each in tasks if each.test is not None}
    members = {name: trained.members[name] for name in tests}
    extractors = {name: member.extractor for name, member in members.items()}
    return recombine(extractors, {name: member.head for name, member in members.items()}, tests, force=True).recombined


def test_networks_of_a_group_recombine_and_others_do_not(trained: Trained) -> None:
    tasks = task("a", A), task("b", B)
    alone = train(tasks, found(DESIGN, (), X), CompatRecipe(epochs=5))
    none, together = _recombined(alone, *tasks), _recombined(trained, *tasks)
    assert none < 30, none
    assert together - none > 35, (none, together)
    for name, member in trained.members.items():
        other = alone.members[name].accuracy
        assert member.accuracy is not None and other is not None and member.accuracy > other - 0.05


def test_an_incremental_training_joins_and_leaves_the_group_as_it_is(trained: Trained) -> None:
    third = task("c", (0, 3, 4, 8))
    later = train([third], trained.group, CompatRecipe(epochs=5), incremental=True)
    assert later.group is trained.group
    extractors = {"a": trained.members["a"].extractor, "c": later.members["c"].extractor}
    heads = {"a": trained.members["a"].head, "c": later.members["c"].head}
    a = task("a", A)
    assert a.test is not None and third.test is not None
    found_ = recombine(extractors, heads, {"a": a.test, "c": third.test})
    assert found_.normalised[0, 1] > 20, found_.normalised


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes() -> None:
    group = found(DESIGN, ("RP", "DCC", "IIW"), X, common=COMMON)
    one, two = (train([_few("a", A), _few("b", B)], group, QUICK) for _ in range(2))
    assert one.group.digest == two.group.digest
    assert one.members["a"].net.digest == two.members["a"].net.digest
    other = train([_few("a", A), _few("b", B)], group, QUICK.model_copy(update={"seed": 1}))
    assert other.group.digest != one.group.digest


@pytest.mark.slow
@pytest.mark.parametrize("methods", [("RP", "DCC", "IIW"), ("IIW",)])
def test_a_broken_training_goes_on_to_the_same_bytes(methods: tuple) -> None:
    group = found(DESIGN, methods, X, common=COMMON)
    kept: list[Checkpoint] = []
    whole = train([_few("a", A), _few("b", B)], group, QUICK, checkpoint=kept.append, checkpoint_s=0)
    middle = kept[len(kept) // 2]
    again = train([_few("a", A), _few("b", B)], group, QUICK, resume=middle)
    assert again.group.digest == whole.group.digest
    assert again.members["b"].net.digest == whole.members["b"].net.digest


def test_a_checkpoint_of_another_training_is_refused() -> None:
    group = found(DESIGN, ("IIW",), X)
    kept: list[Checkpoint] = []
    train([_few("a", A)], group, QUICK, checkpoint=kept.append, checkpoint_s=0)
    with pytest.raises(GrafteryError, match="belongs to another"):
        train([_few("b", B)], group, QUICK, resume=kept[0])


class _Other(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(torch.tanh(self.upper(self.lower(x))))
        return logits


def _dropping(logits: int, share: float) -> Net:
    net = Net(logits)
    net.upper.append(torch.nn.Dropout(share))
    return net


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [(Net, _Other), (partial(_dropping, share=0.1), partial(_dropping, share=0.5))]
)
def test_a_checkpoint_of_another_net_of_the_same_shapes_is_refused(first: type[Net], second: type[Net]) -> None:
    group = found(DESIGN, (), X)
    kept: list[Checkpoint] = []
    begun = _few("a", A, Design(first, "lower"))
    train([begun], group, QUICK, checkpoint=kept.append, checkpoint_s=0)
    train([begun], group, QUICK, resume=kept[0])
    with pytest.raises(GrafteryError, match="belongs to another"):
        train([_few("a", A, Design(second, "lower"))], group, QUICK, resume=kept[0])


def test_it_tells_how_far_it_is_and_which_losses_there_are() -> None:
    told: list[Progress] = []
    group = found(DESIGN, ("RP", "DCC"), X, common=COMMON)
    done = train([_few("a", A), _few("b", B)], group, QUICK, progress=told.append)
    assert told[-1].step == told[-1].steps == 3
    assert set(told[-1].losses) == {f"{name}/{loss}" for name in "ab" for loss in ("own", "common", "rotation")}
    assert done.history[-1]["step"] == 3


def test_turned_images_leave_the_running_statistics_alone() -> None:
    """With both weights at zero, RP and DCC change nothing of the networks."""
    recipe = QUICK.model_copy(update={"rotation_weight": 0.0, "common_weight": 0.0})
    plain = train([_few("a", A)], found(DESIGN, (), X), recipe)
    beside = train([_few("a", A)], found(DESIGN, ("RP", "DCC"), X, common=COMMON), recipe)
    ours, theirs = plain.members["a"].net.weights, beside.members["a"].net.weights
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name])


@pytest.mark.slow
def test_turned_images_are_not_counted_by_statistics_that_average_all_batches() -> None:
    class Averaging(Net):
        def __init__(self, logits: int) -> None:
            super().__init__(logits)
            for part in self.modules():
                if isinstance(part, torch.nn.BatchNorm2d):
                    part.momentum = None

    recipe = QUICK.model_copy(update={"rotation_weight": 0.0, "common_weight": 0.0})
    design = Design(Averaging, "lower")
    plain = train([_few("a", A, design)], found(design, (), X), recipe)
    beside = train([_few("a", A, design)], found(design, ("RP", "DCC"), X, common=COMMON), recipe)
    for name, value in plain.members["a"].net.weights.items():
        torch.testing.assert_close(value, beside.members["a"].net.weights[name])


def test_architectures_differ_where_features_have_one_shape() -> None:
    class Deeper(Net):
        def __init__(self, logits: int) -> None:
            super().__init__(logits)
            self.lower.append(torch.nn.Conv2d(16, 16, 1))

    group = found(DESIGN, ("DCC",), X, common=COMMON)
    done = train([_few("a", A), _few("b", B, Design(Deeper, "lower"))], group, QUICK)
    assert set(done.members) == {"a", "b"}


def _refusals() -> dict[str, tuple]:
    wide = Design(partial(Net, width=20), "lower")
    return {
        "another shape at the split": (("RP",), [_few("a", A, wide)], {}, "shape_mismatch"),
        "another architecture with IIW": (("IIW",), [_few("a", A, wide)], {}, "architecture_mismatch"),
        "another cut with IIW": (("IIW",), [_few("a", A, Design(Net, "lower.2"))], {}, "shape_mismatch"),
        "one common class": (("DCC",), [_few("a", (0, 1, 2, 3))], {}, "common_classes"),
        "incremental without heads": (("RP",), [_few("a", A)], {"incremental": True}, "group_untrained"),
        "incremental without heads, one method needing none": (
            ("DCC", "IIW"),
            [_few("a", A)],
            {"incremental": True},
            "group_untrained",
        ),
        "incremental without methods": ((), [_few("a", A)], {"incremental": True}, "recipe_invalid"),
        "tasks with other common classes each": (
            ("DCC",),
            [_few("a", (0, 3, 4)), _few("b", (5, 6, 7))],
            {},
            "common_classes",
        ),
        "two tasks of one name": ((), [_few("a", A), _few("a", B)], {}, "recipe_invalid"),
        "no task": ((), [], {}, "recipe_invalid"),
    }


@pytest.mark.parametrize("what", _refusals())
def test_what_does_not_fit_is_refused_before_the_first_step(what: str) -> None:
    methods, tasks, options, code = _refusals()[what]
    group = found(DESIGN, methods, X, common=COMMON)
    with pytest.raises(GrafteryError) as refused:
        train(tasks, group, QUICK, **options)
    assert refused.value.code == code


def test_images_of_another_shape_are_refused() -> None:
    group = found(DESIGN, (), torch.zeros(2, 1, 12, 12))
    with pytest.raises(Misfit, match="the group's are"):
        train([_few("a", A)], group, QUICK)


def test_a_trained_group_is_not_trained_jointly_again(trained: Trained) -> None:
    with pytest.raises(GrafteryError, match="found another group"):
        train([_few("a", A)], trained.group, QUICK, incremental=False)


def test_a_module_is_no_group(trained: Trained) -> None:
    with pytest.raises(Misfit, match="a group is needed here, not a task"):
        train([_few("a", A)], trained.members["a"].head, QUICK)


def test_a_network_at_chance_is_refused() -> None:
    real = task("a", A)
    random = torch.Generator().manual_seed(0)
    y = torch.randint(len(A), (96,), generator=random)
    guess = Task("a", real.classes, SampleSet(real.train.x[:96], y), DESIGN, real.test)
    with pytest.raises(TrainingFailed, match="chance is") as failed:
        train([guess], found(DESIGN, (), X), QUICK)
    assert failed.value.code == "at_chance"


class _View(torch.nn.Module):
    """Takes it for granted that maps lie channels first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], -1).unflatten(1, (16, 8, 8))


def _viewing(logits: int) -> Net:
    net = Net(logits)
    net.upper.insert(0, _View())
    return net


def test_a_net_that_asks_how_its_maps_lie_can_be_trained() -> None:
    design = Design(_viewing, "lower")
    done = train([_few("a", A, design)], found(design, (), X), QUICK)
    assert set(done.members) == {"a"}


def _images(name: str, classes: tuple[int, ...], most: int = 10_000) -> Task:
    return Task(name, (), SampleSet(task(name, classes, most=most).train.x), DESIGN)


def test_images_without_labels_give_an_extractor_that_heads_of_the_group_stand_on(trained: Trained) -> None:
    """Of a task's own images: its head works on an extractor that has never seen a label."""
    a = task("a", A)
    later = train([_images("images", A)], trained.group, CompatRecipe(epochs=4), incremental=True)
    member = later.members["images"]
    assert (member.net, member.head, member.accuracy) == (None, None, None)
    assert group_of(member.extractor.manifest) == trained.group.digest
    head = trained.members["a"].head
    assert head is not None and a.test is not None
    check_group(member.extractor, head)
    reached = accuracy(member.extractor, head, a.test)
    assert above(reached, chance_of(a.test), len(a.test)), reached


@pytest.mark.slow
def test_images_without_labels_leave_the_other_tasks_as_they_are_where_nothing_is_shared() -> None:
    """r is learned from both; with its loss at zero, the labelled task learns as if it were alone."""
    recipe = QUICK.model_copy(update={"rotation_weight": 0.0})
    group = found(DESIGN, ("RP",), X)
    both = train([_few("a", A), _images("images", B, 96)], group, recipe)
    alone = train([_few("a", A)], group, recipe)
    for name, value in alone.members["a"].extractor.weights.items():
        torch.testing.assert_close(value, both.members["a"].extractor.weights[name])


@pytest.mark.slow
def test_a_broken_training_on_images_alone_goes_on_to_the_same_bytes() -> None:
    group = found(DESIGN, ("RP", "IIW"), X)
    kept: list[Checkpoint] = []
    tasks = [_few("a", A), _images("images", B, 96)]
    told: list[Progress] = []
    whole = train(tasks, group, QUICK, checkpoint=kept.append, checkpoint_s=0, progress=told.append)
    again = train(tasks, group, QUICK, resume=kept[len(kept) // 2])
    assert again.members["images"].extractor.digest == whole.members["images"].extractor.digest
    assert set(told[-1].losses) == {"a/own", "a/rotation", "images/rotation"}


@pytest.mark.parametrize(
    ("methods", "says"), [(("DCC", "IIW"), "learn nothing without"), (("DCC", "RP"), "no task has any")]
)
def test_images_that_nothing_would_be_learned_from_are_refused(methods: tuple, says: str) -> None:
    with pytest.raises(SamplesRefused, match=says) as refused:
        train([_images("images", A, 96)], found(DESIGN, methods, X, common=COMMON), QUICK)
    assert refused.value.code == "samples_missing"
