"""Verbs about what the registry has: look, compose, point, withdraw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, overload
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from graftery.client.answers import json_of, parse
from graftery.client.transport import TIMEOUT
from graftery.client.verbs import Verbs, module_path, request_of, version_path
from graftery.errors import NotFound
from graftery.spec.impact import ImpactOut
from graftery.spec.lineage import Direction, LineageOut
from graftery.spec.manifest import Kind
from graftery.spec.names import ALIAS_PATTERN, check_name, parse_reference
from graftery.spec.wire import (
    AliasEvent,
    AliasOut,
    AliasRequest,
    ModuleOut,
    ModulePatch,
    NetworkRequest,
    VersionOut,
    YankRequest,
)

MEASURING_TIMEOUT = httpx.Timeout(connect=10.0, read=900.0, write=120.0, pool=30.0)
"""A network is measured while the answer is waited for, perhaps after others."""


class CatalogueVerbs(Verbs):
    def list(
        self, kind: Kind | None = None, *, q: str | None = None, tag: str | None = None, limit: int | None = None
    ) -> Iterator[ModuleOut]:
        """The names in the registry, newest first; `q` looks in names and descriptions."""
        return self._pages(ModuleOut, "/v1/modules", limit=limit, kind=kind, q=q, tag=tag)

    def module(self, name: str) -> ModuleOut:
        """A name: its kind, description, tags, aliases.

        Raises:
            NotFound: with what exists nearby in `details["near"]`.
        """
        return parse(ModuleOut, self._transport.get(module_path(name)))

    def versions(self, name: str, *, limit: int | None = None) -> Iterator[VersionOut]:
        """The versions of a name, newest first, yanked ones included."""
        return self._pages(VersionOut, f"{module_path(name)}/versions", limit=limit)

    def inspect(self, ref: str) -> VersionOut:
        """One version: manifest, verified facts, metrics. `name`, `name:3`, `name@alias` or `name@sha256:...`."""
        return parse(VersionOut, self._transport.get(version_path(ref)))

    def lineage(self, ref: str, direction: Direction = "up") -> LineageOut:
        """What a version was made from (`up`), what was made from it (`down`), or `both` as one graph.

        `graftery.spec.graphs.draw` makes DOT or Mermaid of it.
        """
        return parse(LineageOut, self._transport.get(f"{version_path(ref)}/lineage", direction=direction))

    def impact(self, ref: str) -> ImpactOut:
        """What a yank of a version (`name:3`, `name@alias`), or of all versions of a `name`, would touch.

        `broken` is what is served now and would be answered differently or not at all; `delete` says what keeps it here.
        """
        return parse(ImpactOut, self._transport.get(f"{_bare_or_version_path(ref)}/impact"))

    def update(self, name: str, *, description: str | None = None, tags: Sequence[str] | None = None) -> ModuleOut:
        """Change the description (markdown) or the tags of a name; what is None stays.

        Raises:
            Conflict: `precondition_failed`, somebody else changed it at the same moment.
        """
        path = module_path(name)
        patch = request_of(ModulePatch, {"description": description, "tags": None if tags is None else [*tags]})
        headers = {"If-Match": self._transport.get(path).headers.get("ETag", "*")}
        body = patch.model_dump(exclude_none=True)
        return parse(ModuleOut, self._transport.request("PATCH", path, json=body, headers=headers))

    def compose(
        self,
        name: str,
        category: str,
        task: str,
        adapter: str | None = None,
        *,
        alias: str | None = None,
        evaluate_on: str | None = None,
        force: bool = False,
    ) -> VersionOut:
        """Name a network of modules that are there: gS(h(f(x))), or gS(f(x)) without an adapter.

        Args:
            alias: of the network, to point at the new version.
            evaluate_on: reference of a labelled sample set. The service measures the network on it before it publishes it, and the
                task module on its own category module where that is known: see `metrics`.
            force: compose although preprocessing, meanings or compatibility groups disagree.
        Raises:
            Misfit: the shapes cannot be joined; or preprocessing, meanings or groups disagree, unless `force`.
            SamplesRefused: the samples do not fit.
            Conflict: the network is there already, and was not measured on these samples.
        """
        said = {"name": name, "category": category, "adapter": adapter, "task": task, "alias": alias, "force": force}
        wanted = request_of(NetworkRequest, said | {"evaluate_on": evaluate_on})
        body = wanted.model_dump(exclude_none=True)
        timeout = TIMEOUT if evaluate_on is None else MEASURING_TIMEOUT
        return parse(VersionOut, self._transport.post("/v1/networks", body, timeout=timeout))

    def aliases(self, name: str) -> tuple[AliasOut, ...]:
        return self._all(AliasOut, f"{module_path(name)}/aliases")

    def alias(self, name: str, alias: str, version: int) -> AliasOut:
        """Point `name@alias` at a version; the alias `default` is what the bare name means."""
        body = request_of(AliasRequest, {"version": version}).model_dump()
        return parse(AliasOut, self._transport.request("PUT", _alias_path(name, alias), json=body))

    def unalias(self, name: str, alias: str) -> None:
        self._transport.request("DELETE", _alias_path(name, alias))

    def alias_history(self, name: str, alias: str) -> tuple[AliasEvent, ...]:
        """Every change of an alias: from what, to what, when, by whom."""
        return self._all(AliasEvent, f"{_alias_path(name, alias)}/history")

    def rollback(self, name: str, alias: str) -> AliasOut:
        """Point an alias at the version that it had before its last change."""
        return parse(AliasOut, self._transport.post(f"{_alias_path(name, alias)}/rollback"))

    @overload
    def yank(self, ref: str, reason: str, *, dry_run: Literal[False] = False) -> VersionOut: ...

    @overload
    def yank(self, ref: str, reason: str, *, dry_run: Literal[True]) -> ImpactOut: ...

    def yank(self, ref: str, reason: str, *, dry_run: bool = False) -> VersionOut | ImpactOut:
        """Hide a version from names and aliases; what pins it by number or digest still resolves.

        Args:
            dry_run: change nothing, and give what it would touch.
        """
        body = request_of(YankRequest, {"reason": reason, "dry_run": dry_run}).model_dump(exclude_defaults=True)
        answer = self._transport.post(f"{version_path(ref)}/yank", body)
        return parse(ImpactOut, answer) if dry_run else parse(VersionOut, answer)

    def unyank(self, ref: str) -> VersionOut:
        return parse(VersionOut, self._transport.post(f"{version_path(ref)}/unyank"))

    def delete(self, ref: str) -> None:
        """Delete a version (`name:3`), or a name with all its versions (`name`). `collect` frees the bytes.

        Raises:
            Conflict: `has_dependents`, with the references of what was made from it in `details["dependents"]`.
        """
        self._transport.request("DELETE", _bare_or_version_path(ref))

    def _all(self, model: type, path: str) -> tuple:  # type: ignore[type-arg]
        """A short list that comes whole, as a JSON array or as one page."""
        document = json_of(self._transport.get(path))
        items = document["items"] if isinstance(document, dict) else document
        return TypeAdapter(tuple[model, ...]).validate_python(items)  # type: ignore[valid-type]

    def _existing(self, name: str, digest: str) -> VersionOut | None:
        """The version of this name with these very bytes, if it is there."""
        try:
            return self.inspect(f"{name}@sha256:{digest}")
        except NotFound:
            return None


def _bare_or_version_path(ref: str) -> str:
    """Of all versions, where the reference is a name and no more; else of the one."""
    return module_path(ref) if str(parse_reference(ref)) == parse_reference(ref).name else version_path(ref)


def _alias_path(name: str, alias: str) -> str:
    return f"{module_path(name)}/aliases/{quote(check_name(alias, what='alias', pattern=ALIAS_PATTERN), safe='')}"
