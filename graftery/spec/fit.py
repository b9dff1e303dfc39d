"""Whether modules can be joined: shapes, preprocessing and meanings, from manifests alone. Torch-free."""

from __future__ import annotations

from graftery.errors import Misfit
from graftery.spec.manifest import Manifest, OutputSpec, TensorSpec


def check_join(
    category: Manifest,
    task: Manifest,
    teacher_task: Manifest | None = None,
    *,
    adapter: Manifest | None = None,
    with_adapter: bool,
    force: bool = False,
) -> None:
    """Refuse modules that cannot be joined, naming what disagrees.

    Args:
        category: f. It has one output, its features.
        task: gS. It has one output.
        teacher_task: gT, which must take f's features as they are.
        adapter: an adapter at hand, which must fit on both sides exactly.
        with_adapter: an adapter will be learned, so that sizes and the kind of features may differ.
        force: let preprocessing and meanings disagree. Shapes never may.

    Raises:
        Misfit: `kind_mismatch`, `shape_mismatch`, `preprocessing_mismatch`, `semantics_mismatch`.
    """
    features = _check_kinds(category, task, teacher_task, adapter)
    if adapter is not None:
        output = _only_output(adapter, "adapter")
        _same("the category's features are", features, "the adapter's input", adapter.input, hint=_OTHER_ADAPTER)
        _same("the adapter's output is", output, "the task's input", task.input, hint=_OTHER_ADAPTER)
    elif with_adapter:
        _joinable(features, task.input)
    else:
        _same("the category's features are", features, "the task's input", task.input, hint="an adapter may join them")
    if teacher_task is not None:
        teacher_input = teacher_task.input
        _same("the category's features are", features, "the teacher task's input", teacher_input, hint=_OTHER_TEACHER)
        _same_outputs(_only_output(task, "task"), _only_output(teacher_task, "teacher task"), force=force)
    if not force:
        _same_preprocessing(category, task, "task")
        if teacher_task is not None:
            _same_preprocessing(category, teacher_task, "teacher task")


_OTHER_ADAPTER = "the adapter was learned for other modules: give theirs, or transplant to learn one for these"
_OTHER_TEACHER = "gT is the task module that was cut from the category's own teacher"


def output_of(task: Manifest) -> OutputSpec:
    """The one output of a category, task or adapter file."""
    return next(iter(task.outputs.values()))


def _check_kinds(
    category: Manifest, task: Manifest, teacher_task: Manifest | None, adapter: Manifest | None
) -> OutputSpec:
    wanted = [("category", category), ("task", task), ("task", teacher_task), ("adapter", adapter)]
    for kind, manifest in wanted:
        if manifest is not None and manifest.kind != kind:
            raise Misfit(f"a {kind} module is needed here, not a {manifest.kind}", code="kind_mismatch")
    _only_output(task, "task")
    return _only_output(category, "category")


def _only_output(manifest: Manifest, what: str) -> OutputSpec:
    if len(manifest.outputs) != 1:
        raise Misfit(f"the {what} module has the outputs {sorted(manifest.outputs)}: it must have one")
    return output_of(manifest)


def _free(size: int | str) -> bool:
    return size in ("H", "W")


def fits(ours: TensorSpec, theirs: TensorSpec) -> bool:
    sizes = zip(ours.shape, theirs.shape, strict=False)
    return (
        ours.dtype == theirs.dtype
        and len(ours.shape) == len(theirs.shape)
        and all(a == b or _free(a) or _free(b) for a, b in sizes)
    )


def say(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"


def _same(what: str, ours: TensorSpec, other: str, theirs: TensorSpec, *, hint: str) -> None:
    if not fits(ours, theirs):
        raise Misfit(f"{what} {say(ours)}, but {other} is {say(theirs)}", hint=hint)


def _joinable(features: TensorSpec, wanted: TensorSpec) -> None:
    """By an adapter: from and to [N, C, H, W], [N, T, D] and [N, D], of any sizes; channels and features are known."""
    shapes = features.shape, wanted.shape
    known = all(len(s) in (2, 3, 4) and 0 not in s and isinstance(s[1] if len(s) == 4 else s[-1], int) for s in shapes)
    floating = features.dtype == wanted.dtype and features.dtype.startswith(("float", "bfloat"))
    if known and floating:
        return
    raise Misfit(
        f"the category's features are {say(features)}, but the task's input is {say(wanted)}: no adapter joins them",
        hint="both must be [N, C, H, W], [N, T, D] or [N, D] of one floating dtype, with C or D known",
    )


def _same_outputs(task: OutputSpec, teacher: OutputSpec, *, force: bool) -> None:
    if len(task.shape) != len(teacher.shape) or not fits(task, teacher):
        raise Misfit(f"the task's output is {say(task)}, but the teacher task's output is {say(teacher)}")
    if force:
        return
    for field in ("semantics", "unit"):
        ours, theirs = getattr(task, field), getattr(teacher, field)
        if ours != theirs and ours is not None and theirs is not None:
            raise Misfit(f"the task's {field} is {ours}, the teacher task's {theirs}", code="semantics_mismatch")
    # The one class of a one-logit net is the category itself, which a shared task module cannot know.
    names = {spec.class_names for spec in (task, teacher) if spec.class_names is not None and len(spec.class_names) > 1}
    if len(names) > 1:
        raise Misfit(
            "the task's and the teacher task's classes are not the same",
            code="semantics_mismatch",
            hint=" against ".join(", ".join(group[:8]) for group in sorted(names)),
        )


def _same_preprocessing(category: Manifest, other: Manifest, what: str) -> None:
    ours, theirs = category.preprocessing, other.preprocessing
    if ours is not None and theirs is not None and ours != theirs:
        raise Misfit(
            f"the category's preprocessing is {ours.model_dump()}, the {what}'s {theirs.model_dump()}",
            code="preprocessing_mismatch",
            hint="inputs go through the category's preprocessing only: force the join if that is meant",
        )
