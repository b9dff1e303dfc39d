"""Whether labels are of a task's classes, from what was found in a sample set. Torch-free: refused before a job exists."""

from __future__ import annotations

from graftery.errors import SamplesRefused
from graftery.spec.manifest import LabelFacts, OutputSpec, Size

IGNORED = 255
"""Label of a pixel that counts for nothing."""
_DIMENSIONS = {"classification": 1, "segmentation": 3}
_SHOWN = 8


def check_labels(shape: tuple[Size, ...], labels: LabelFacts | None, meaning: OutputSpec, what: str) -> None:
    """Refuse labels that do not fit an output of this meaning.

    Args:
        shape: of the labels, [n, ...].
        labels: what they hold; None: not known, or there are none.
        meaning: of the task's output.
        what: the samples' name, for the message.

    Raises:
        SamplesRefused: `samples_invalid`.
    """
    semantics = meaning.semantics
    if semantics == "feature":
        raise SamplesRefused(
            f"{what} have labels, but the task's output is a feature, which has none",
            hint="state the output's semantics when the task is traced",
        )
    wanted = _DIMENSIONS.get(semantics, len(meaning.shape))
    sizes = meaning.shape[2:] if semantics == "segmentation" else meaning.shape[1:]
    fits = len(shape) == wanted and (semantics == "classification" or _agree(shape[1:], sizes))
    if not fits:
        form = ", ".join(("n", *map(str, sizes if semantics != "classification" else ())))
        raise SamplesRefused(
            f"the labels of {what} are [{', '.join(map(str, shape))}]; those of a {semantics} are [{form}]",
            hint="upload them again with y of that shape",
        )
    if semantics != "regression" and labels is not None:
        _check_ids(labels, meaning, what)


def check_measured(labels: LabelFacts | None, meaning: OutputSpec, what: str) -> None:
    """Refuse to measure on labels of one class only: a net that always says so would be right every time.

    Raises:
        SamplesRefused: `samples_invalid`.
    """
    _check_two_classes(labels, meaning, what, "measure on samples of every class, or leave evaluate_on out")


def check_taught(labels: LabelFacts | None, meaning: OutputSpec, what: str, used: int) -> None:
    """Refuse to learn directly from labels of one class only.

    Args:
        used: how many of the samples are used; the first two are of two classes, where there are two.

    Raises:
        SamplesRefused: `samples_invalid`.
    """
    hint = "add samples of another class; or give them as unlabelled, or leave direct out of the recipe's objectives"
    _check_two_classes(labels, meaning, what, hint)
    if meaning.semantics == "classification" and used < 2:
        raise SamplesRefused(
            f"the recipe uses {used} of {what}, and direct needs samples of two classes",
            hint="let labels be 2 or more, or leave direct out of the recipe's objectives",
        )


def _check_two_classes(labels: LabelFacts | None, meaning: OutputSpec, what: str, hint: str) -> None:
    if labels is None or meaning.semantics not in _DIMENSIONS:
        return
    there = _classes(labels, meaning)
    if len(there) < 2:
        only = f"the class {there[0]}{_named(there[0], meaning)} only" if there else "no class at all"
        raise SamplesRefused(f"the labels of {what} have {only}, and two are needed", hint=hint)


def _check_ids(labels: LabelFacts, meaning: OutputSpec, what: str) -> None:
    count = meaning.shape[1] if isinstance(meaning.shape[1], int) and meaning.shape[1] > 1 else 2
    # Where the classes are known, a pixel's 255 is not among them.
    found = _classes(labels, meaning)
    within = not found or (found[0] >= 0 and found[-1] < count)
    if labels.whole and within:
        return
    names = meaning.class_names or ()
    named = f" ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})" if len(names) == count else ""
    held = f"from {labels.least:g} to {labels.greatest:g}" if labels.whole else "that are no whole numbers"
    ignored = f"; {IGNORED} for pixels that do not count" if meaning.semantics == "segmentation" else ""
    raise SamplesRefused(
        f"{what} have labels {held}, the task's classes are 0 to {count - 1}{named}",
        hint=f"number the classes from 0 in the task's order{ignored}",
    )


def _classes(labels: LabelFacts, meaning: OutputSpec) -> list[int]:
    """The classes that occur, in order; of very large or odd numbers only the least and the greatest."""
    known = [int(labels.least), int(labels.greatest)] if labels.classes is None else labels.classes
    ignored = IGNORED if meaning.semantics == "segmentation" else None
    return sorted({each for each in known if each != ignored})


def _agree(shape: tuple[Size, ...], wanted: tuple[Size, ...]) -> bool:
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in pairs)


def _named(index: int, meaning: OutputSpec) -> str:
    names = meaning.class_names or ()
    return f" ({names[index]})" if len(names) > 1 and 0 <= index < len(names) else ""
