"""A transplant without any service, cell by cell (`# %%`): run it as a script, or open it as a notebook.

    python -m examples.transplant_in_a_notebook          # STEPS=60 for a quick look

It needs scikit-learn for the digits (`pip install graftery[demo]`).
"""

# %% Two teams. One has a generic net that knows the digits 0, 1, 2 and 4; another one has a teacher for "is it an 8?".
import os
import tempfile
from pathlib import Path

from examples import digits
from graftery import compose, cut, evaluate, trace
from graftery.spec.manifest import OutputMeaning
from graftery.spec.recipes import InversionRecipe, TransplantRecipe
from graftery.transplant import Progress, transplant

DIGIT = 8
STEPS = int(os.environ.get("STEPS", "600"))
TRAINING_STEPS = int(os.environ.get("TRAINING_STEPS", "400"))

generic = digits.train_generic(steps=TRAINING_STEPS)
teacher = digits.train_teacher(DIGIT, steps=TRAINING_STEPS)
test = digits.one_against_rest(DIGIT, "test")

# %% A net is written down as data: operators of an allow-list, weights, a manifest. No code is kept.
meaning = {"is": OutputMeaning(semantics="classification")}
some_images = test.x[:2]
teacher_file = trace(teacher, some_images, outputs=meaning, preprocessing=digits.PREPROCESSING)
generic_file = trace(generic.net(0), some_images, outputs=meaning, preprocessing=digits.PREPROCESSING)

# %% Each is cut at a layer: below it the category module, above it one task module an output.
f, own_tasks = cut(teacher_file, digits.CUT)
_, shared_tasks = cut(generic_file, digits.CUT)
g_teacher, g_shared = own_tasks["is"], shared_tasks["is"]


# %% The adapter from f to g_shared is learned without a single image: f, g_teacher and g_shared are all there is.
def show(progress: Progress) -> None:
    if progress.step % 100 == 0 or progress.step == progress.steps:
        print(f"{progress.phase:10} {progress.step:4}/{progress.steps}  loss {progress.loss:.4f}")


# A third as many steps for the images that the nets' own statistics ask for (inversion): 200, as by default.
recipe = TransplantRecipe(steps=STEPS, inversion=InversionRecipe(steps=STEPS // 3))
learned = transplant(f, g_shared, teacher_task=g_teacher, recipe=recipe, evaluate_on=test, progress=show)

# %% How good it is, on digits that nobody trained on. Always "no" would have an accuracy of .9: the balanced one counts.
networks = {
    "teacher": compose(f, None, g_teacher),
    "no adapter": compose(f, None, g_shared),
    "transplant": compose(f, learned.adapter, g_shared),
}
for name, net in networks.items():
    metrics = evaluate(net, test, g_shared.manifest.outputs["is"])
    print(f"{name:12} balanced accuracy {metrics['balanced_accuracy']:.3f}")

# %% The adapter is a module file like any other; the recipe has every number that made it.
folder = Path(tempfile.mkdtemp())
print("sha256 of the adapter:", learned.adapter.save(folder / "eight-in-generic.safetensors"))
print(learned.recipe.model_dump_json(exclude_defaults=True))
