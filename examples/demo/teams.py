"""What the teams have before they meet: nets trained on their own digits, and held-out digits to measure on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from examples import digits
from graftery import Client, ModuleFile, cut, trace
from graftery.spec.manifest import OutputMeaning

SHARED_TASK = "digits-is"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MEANING = {"is": OutputMeaning(semantics="classification", class_names=("yes",))}


@dataclass(frozen=True)
class Teams:
    """A generic net (a task module shared by several categories) and one teacher for each target digit."""

    generic: digits.Generic
    teachers: dict[int, digits.Net]
    x_train: Tensor
    x_test: Tensor
    test_digits: Tensor

    @property
    def known(self) -> list[str]:
        """The networks that are served before any transplant."""
        return [f"{WORDS[digit]}-in-digits" for digit in self.generic.categories]

    def traced(self, net: nn.Module) -> ModuleFile:
        """A whole net as a module file."""
        return trace(net, self.x_train[:4], kind="teacher", outputs=MEANING, preprocessing=digits.PREPROCESSING)


def train(targets: list[int], seed: int) -> Teams:
    """Train every team's net on the training digits."""
    x_train, _ = digits.images("train")
    x_test, test_digits = digits.images("test")
    generic = digits.train_generic(seed=seed)
    return Teams(generic, {d: digits.train_teacher(d, seed=seed) for d in targets}, x_train, x_test, test_digits)


def push_generic(client: Client, teams: Teams) -> None:
    """Publish the generic net in parts: one shared task module, a category module a digit, a network for each."""
    task: ModuleFile | None = None
    for digit, name in zip(teams.generic.categories, teams.known, strict=True):
        category, tasks = cut(teams.traced(teams.generic.net(digit)), digits.CUT)
        if task is None:
            task = tasks["is"]
            client.push(SHARED_TASK, task, description="Is it this digit? Shared by all digits of the generic net.")
        client.push(WORDS[digit], category)
        client.compose(name, WORDS[digit], SHARED_TASK)


def push_teacher(client: Client, teams: Teams, digit: int) -> None:
    """Publish a teacher net whole; the service cuts it."""
    client.push_teacher(WORDS[digit], teams.traced(teams.teachers[digit]), cut=digits.CUT)
