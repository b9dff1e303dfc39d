"""The main job against a service, on real handwritten digits: push, transplant without labels, ask.

    graftery serve                       # in one terminal
    python -m examples.quickstart        # in another one; STEPS=60 for a quick look

It needs scikit-learn for the digits (`pip install graftery[demo]`).
"""

from __future__ import annotations

import os

from examples import digits
from graftery import Client
from graftery.spec.wire import JobEvent

DIGIT = 8
STEPS = int(os.environ.get("STEPS", "600"))
TRAINING_STEPS = int(os.environ.get("TRAINING_STEPS", "400"))


def show(event: JobEvent) -> None:
    """One line for each state of the job, and for every hundredth step."""
    if event.type == "state":
        print(f"  job {event.data['state']}")
    elif event.type == "progress" and event.data["step"] % 100 == 0:
        print(f"  {event.data['phase']} {event.data['step']}/{event.data['steps']}")


def main() -> None:
    """Two teams, one service, one network that neither of them has trained."""
    generic, eight = digits.train_generic(steps=TRAINING_STEPS), digits.train_teacher(DIGIT, steps=TRAINING_STEPS)
    test = digits.one_against_rest(DIGIT, "test")
    how = {"cut": digits.CUT, "outputs": {"is": "classification"}, "preprocessing": digits.PREPROCESSING}
    with Client() as client:
        client.push_teacher("digits", generic.net(0), test.x[:2], **how)
        client.push_teacher("eight", eight, test.x[:2], **how)
        client.push_samples("eights-held-out", test.x, test.y)
        recipe = {"steps": STEPS, "inversion": {"steps": STEPS // 3}}
        job = client.transplant(
            "eight", "digits-is", name="eight-in-digits", recipe=recipe, evaluate_on="eights-held-out"
        )
        done = client.wait(job, progress=show)
        measured = (done.result or {})["metrics"]
        for net in ("teacher", "identity", "adapter"):
            low, high = measured[f"{net}_interval"]["balanced_accuracy"]
            print(f"{net:10} balanced accuracy {measured[net]['balanced_accuracy']:.3f} ({low:.3f} to {high:.3f})")
        logits = client.infer("eight-in-digits", test.x[:8])
        print("is it an 8?", ["yes" if logit > 0 else "no" for logit in logits[:, 0]], "truth:", test.y[:8].tolist())


if __name__ == "__main__":
    main()
