"""Verbs about clones: ask for one, put it into a network, take it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from graftery.client.answers import parse
from graftery.client.catalogue import MEASURING_TIMEOUT
from graftery.client.verbs import Verbs, request_of
from graftery.spec.clones import CloneRequest, ClonesRequest
from graftery.spec.names import parse_reference
from graftery.spec.recipes import CloneRecipe
from graftery.spec.wire import JobOut, VersionOut


class CloneVerbs(Verbs):
    def clone(
        self,
        source: str,
        target: str,
        want: Sequence[str],
        *,
        name: str,
        samples: str,
        evaluate_on: str | None = None,
        source_evaluate_on: str | None = None,
        recipe: CloneRecipe | Mapping[str, Any] | None = None,
        network: str | None = None,
        alias: str | None = None,
    ) -> JobOut:
        """Ask for a clone: some classes of one network, for another one. Neither of them changes by a bit.

        Args:
            source: reference of the network that knows the classes.
            target: reference of the network that they are added to.
            want: names of the source's classes (`class 3` where it has none), in the order of the clone's logits.
            name: of the clone.
            samples: reference of a labelled sample set with five images of a class or more: the target's classes from 0, then the
                wanted ones.
            evaluate_on: reference of samples to measure on, labelled so; never trained on.
            source_evaluate_on: reference of samples of the source's own classes, to measure what else of it was cloned.
            recipe: how; its `positions` are layers of the target, as `category.features.3` or `task.block`.
            network: to publish the target with the clone under, too.
            alias: of that network, to point at the new version.
        Returns:
            The queued job, its references pinned.
        Raises:
            Misfit: before a job exists: `class_known`; the networks read other images, or are no classifiers.
            RecipeRefused: `class_unknown`, `position_invalid`.
            SamplesRefused: too few images, or other labels.
        """
        if not isinstance(recipe, CloneRecipe):
            recipe = request_of(CloneRecipe, recipe or {}, code="recipe_invalid")
        said: dict[str, Any] = {"name": name, "source": source, "target": target, "want": [*want], "samples": samples}
        said |= {"evaluate_on": evaluate_on, "source_evaluate_on": source_evaluate_on}
        wanted = request_of(CloneRequest, said | {"recipe": recipe, "network": network, "alias": alias})
        # Only what was said: what is left out is for the service to choose.
        body = wanted.model_dump(mode="json", exclude_none=True, exclude_unset=True)
        return parse(JobOut, self._transport.post("/v1/clones", body))

    def attach(
        self, network: str, clones: Sequence[str], *, name: str | None = None, alias: str | None = None
    ) -> VersionOut:
        """Publish a network with clones: a version of the same modules, which answers for its own classes as before, to the bit.

        Args:
            network: reference of the target, or of it with other clones.
            clones: references, in the order of their logits.
            name: to publish under; by default the network's own.
            alias: of that name, to point at the version.
        Raises:
            Misfit: `target_changed`, a clone was made for another network; `class_known`.
        """
        return self._change("attach", network, clones, name, alias)

    def detach(
        self, network: str, clones: Sequence[str], *, name: str | None = None, alias: str | None = None
    ) -> VersionOut:
        """Publish a network without some of its clones; without the last one it is the target, to the digest.

        Raises:
            Misfit: `kind_mismatch`, it does not have such a clone.
        """
        return self._change("detach", network, clones, name, alias)

    def _change(
        self,
        verb: Literal["attach", "detach"],
        network: str,
        clones: Sequence[str],
        name: str | None,
        alias: str | None,
    ) -> VersionOut:
        wanted = request_of(ClonesRequest, {"clones": [*clones], "name": name, "alias": alias})
        path = f"/v1/networks/{quote(str(parse_reference(network)), safe='')}/{verb}"
        # The service puts the files together while the answer is waited for, perhaps after others.
        body = wanted.model_dump(exclude_none=True)
        return parse(VersionOut, self._transport.post(path, body, timeout=MEASURING_TIMEOUT))
