"""A clone from end to end: two teachers, a class of one in the other, asked, taken out again, and nothing of it left."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from graftery.client.cli import run
from graftery.client.http import Client
from graftery.errors import Misfit, RecipeRefused
from graftery.spec.wire import JobOut
from tests.support import clones
from tests.support.service import Service
from tests.support.world import images

pytestmark = [pytest.mark.trips, pytest.mark.slow]
TARGET, SOURCE, MORE = "animals-is-teacher", "birds-is-teacher", "animals-and-birds"
X = images(9)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    """Two teachers, and images of cats, dogs and one bird, and of all birds."""
    with service.client() as made:
        made.push_teacher("animals", clones.teacher(clones.ANIMALS), cut=clones.CUT)
        made.push_teacher("birds", clones.teacher(clones.BIRDS, 6, 1), cut=clones.CUT)
        few = clones.images(3)
        made.push_samples("few", few.x.numpy(), few.y)
        yield made


@pytest.fixture(scope="module")
def cloned(client: Client) -> JobOut:
    """The owl, in a network of its own; and the target's answers are known before."""
    client.infer(TARGET, X)
    job = client.clone(
        SOURCE,
        TARGET,
        ["owl"],
        name="owl",
        samples="few",
        evaluate_on="few",
        source_evaluate_on="few",
        recipe=clones.QUICK,
        network=MORE,
        alias="stable",
    )
    return client.wait(job)


def test_what_comes_of_a_clone(client: Client, cloned: JobOut) -> None:
    assert cloned.result is not None
    assert (cloned.result["clone"], cloned.result["network"]) == ("owl:1", f"{MORE}:1")
    metrics, certificate = cloned.result["metrics"], cloned.result["certificate"]
    assert {"original", "wanted", "changed", "masked_unwanted", "added", "kept"} <= metrics.keys()
    assert len(metrics["positions"]) > 1
    assert (certificate["networks"], certificate["identical"], certificate["different"]) == (1, 1, [])
    phases = [event.data["phase"] for event in client.watch(cloned) if event.type == "progress"]
    order = ("localize", "heal", "search", "train")
    assert [phase for phase in dict.fromkeys(phases) if phase in order] == [phase for phase in order if phase in phases]
    assert {"localize", "train"} <= set(phases)
    edges = {(edge.child, edge.parent, edge.role) for edge in client.lineage(MORE).edges}
    assert edges >= {
        (f"{MORE}:1", "owl:1", "clone"),
        ("owl:1", f"{TARGET}:1", "target"),
        ("owl:1", f"{SOURCE}:1", "source"),
        ("owl:1", "few:1", "samples"),
    }


def test_in_and_out_without_a_trace(client: Client, cloned: JobOut) -> None:
    target, before = client.inspect(TARGET), client.infer(TARGET, X)
    more = client.infer(f"{MORE}@stable", X)
    assert more.shape == (9, 3)
    np.testing.assert_array_equal(more[:, :2].view(np.int32), before.view(np.int32))
    second = client.wait(
        client.clone(SOURCE, TARGET, ["wren", "jay"], name="others", samples=_four(client), recipe=clones.QUICK)
    )
    assert second.result is not None and "network" not in second.result
    both = client.attach(MORE, ["others"])
    answers = client.infer(both.ref, X)
    np.testing.assert_array_equal(answers[:, :3], more)
    client.detach(both.ref, ["owl"])
    np.testing.assert_array_equal(client.infer(f"{MORE}:3", X), np.delete(answers, 2, 1))
    bare = client.detach(f"{MORE}:3", ["others"], name=TARGET)
    assert (bare.ref, bare.digest, bare.parts) == (target.ref, target.digest, target.parts)
    np.testing.assert_array_equal(client.infer(bare.ref, X).view(np.int32), before.view(np.int32))


def test_the_target_and_the_network_with_clones_are_replayed_here(
    service: Service, client: Client, cloned: JobOut, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [client.verify(ref) for ref in (TARGET, f"{MORE}:1")]
    assert [(each.compared, each.identical) for each in found] == [("bitwise", True)] * 2
    assert found[1].certificate.clones == [f"owl@sha256:{client.inspect('owl').digest}"]
    assert run(["verify", f"{MORE}:1", "--url", service.url]) == 0
    assert "the same to the bit" in capsys.readouterr().out


def test_a_teacher_that_is_pushed_again_is_still_what_it_was(client: Client, cloned: JobOut) -> None:
    """Its network has a version with a clone now, of the same modules."""
    more = client.attach(TARGET, ["owl"])
    out = client.push_teacher("animals", clones.teacher(clones.ANIMALS), cut=clones.CUT)
    assert more.ref != out.networks["is"].ref == f"{TARGET}:1"


def test_refusals_come_before_a_job(client: Client, cloned: JobOut) -> None:
    jobs = len(list(client.jobs()))
    with pytest.raises(RecipeRefused, match="sphinx"):
        client.clone(SOURCE, TARGET, ["sphinx"], name="never", samples="few")
    with pytest.raises(Misfit, match="made for the network"):
        client.attach(SOURCE, [_for_others(client)])
    assert len(list(client.jobs())) == jobs


def _four(client: Client) -> str:
    few = clones.images(4)
    return client.push_samples("four", few.x.numpy(), few.y).ref


def _for_others(client: Client) -> str:
    """A clone whose class no bird has, for the animals."""
    return client.push("tiger", clones.made(("tiger",), source=("tiger", "lion"))).ref
