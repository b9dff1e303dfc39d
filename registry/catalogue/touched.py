"""The names by which versions are found, now and once some of them are yanked: `find.resolve`, for many at once.

A test compares what is foretold here with what resolves after the yank.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from graftery.spec.impact import NameImpact
from graftery.spec.lineage import LineageEdge
from graftery.spec.names import LATEST
from registry.catalogue.find import DEFAULT
from registry.catalogue.lineage import Step, edge_out, networks_of
from registry.catalogue.outs import aliases_of, newest_of
from registry.models import Module, Version


class Known(NamedTuple):
    """What there is to say of a version without its manifest."""

    id: int
    module_id: int
    name: str
    number: int
    kind: str
    yanked: bool

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.number}"


@dataclass(frozen=True)
class Family:
    """Versions that are to be yanked, all of one name, and all that was made of them; by id.

    Args:
        subject: the ids of those that are to be yanked.
        ways: the steps from one of these to each.
        left: the newest version that the name has without them.
    """

    known: Mapping[int, Known]
    subject: Collection[int]
    ways: Mapping[int, list[Step]]
    left: str | None

    def why(self, version_id: int) -> list[LineageEdge]:
        """The steps to a version, as they cross HTTP."""
        way = self.ways[version_id]
        refs = {each: self.known[each].ref for step in way for each in (step.child, step.parent)}
        return [edge_out(refs, step) for step in way]


class _Pointed(NamedTuple):
    """A reference without a number or digest, the number that it leads to, and whether somebody set it there."""

    reference: str
    number: int
    is_set: bool
    default: bool


def touched_names(session: Session, module: Module, family: Family, below: Select[int]) -> list[NameImpact]:
    """Names that lead into the family now, and category modules that answer under a network of it.

    What breaks and is served comes first, then what breaks, then the rest; each by name. Names that nobody set, of
    what is neither served nor yanked, are left out: plain names of adapters, say.
    """
    modules = select(Version.module_id).where(Version.id.in_(below))
    aliases, newest = aliases_of(session, modules), newest_of(session, modules)
    by_number = {(each.module_id, each.number): each for each in family.known.values()}
    pointing = [
        (each, version)
        for module_id, name in {each.module_id: each.name for each in by_number.values()}.items()
        for each in _pointing(name, aliases[module_id], newest.get(module_id))
        if (version := by_number.get((module_id, each.number))) is not None and _is_shown(family, each, version)
    ]
    categories = {version.id for _, version in pointing if version.kind == "category"}
    answering = {one for one in categories if _answers(session, one)}
    found = [_name(family, each, version, answering) for each, version in pointing]
    if module.kind == "network":
        found += _outputs(session, family, found)
    found.sort(key=lambda name: (not (name.served and name.breaks), not name.breaks, not name.served, name.reference))
    return found


def _pointing(name: str, aliases: Mapping[str, int], newest: int | None) -> list[_Pointed]:
    """All references to versions of a name, but for numbers and digests."""
    set_ = [
        _Pointed(name if alias == DEFAULT else f"{name}@{alias}", number, True, alias == DEFAULT)
        for alias, number in aliases.items()
    ]
    if newest is None:
        return set_
    plain = [] if DEFAULT in aliases else [_Pointed(name, newest, False, False)]
    return [*set_, *plain, _Pointed(f"{name}@{LATEST}", newest, False, False)]


def _is_shown(family: Family, pointed: _Pointed, version: Known) -> bool:
    if version.yanked:
        return False  # it is refused already
    if version.id in family.subject or pointed.is_set:
        return True
    return version.kind in {"network", "category"} and not pointed.reference.endswith(f"@{LATEST}")


def _name(family: Family, pointed: _Pointed, version: Known, answering: Collection[int]) -> NameImpact:
    """What becomes of a name; `answering` are the ids of category modules that have outputs."""
    served = version.kind == "network" or version.id in answering
    then, effect = None, "still_served" if served else "still_resolved"
    if version.id in family.subject:
        # An alias stays where it was set, and is refused there.
        then = None if pointed.is_set else family.left
        effect = "no_longer_resolved" if then is None else "moved"
    return NameImpact.model_validate(
        {
            "reference": pointed.reference,
            "ref": version.ref,
            "kind": version.kind,
            "default": pointed.default,
            "served": served,
            "effect": effect,
            "then": then,
            "why": family.why(version.id),
        }
    )


def _answers(session: Session, category_id: int) -> bool:
    """Whether a category module has outputs under /v2."""
    category = session.get(Version, category_id)
    return category is not None and bool(networks_of(session, category))


def _outputs(session: Session, family: Family, names: Sequence[NameImpact]) -> list[NameImpact]:
    """Names of the category modules that answer under the network, by what its plain name leads to now and then."""
    network = next((each for each in names if "@" not in each.reference and each.breaks), None)
    if network is None:
        return []
    row = session.get_one(Version, next(one for one in family.subject if family.known[one].ref == network.ref))
    then = _version(session, row.module_id, network.then)
    categories = select(Version).join(Module).where(Module.kind == "category", Version.digest == _category(row))
    found = []
    for category in session.scalars(categories.order_by(Module.name, Version.number)).all():
        under = {each.module.name for each in networks_of(session, category)}
        if row.module.name in under:
            stays = then is not None and _category(then) == category.digest
            effect = "moved" if stays else "fewer_outputs" if len(under) > 1 else "not_ready"
            found += _category_names(session, category, row, effect, network.then if stays else None)
    return found


def _category_names(
    session: Session, category: Version, network: Version, effect: str, then: str | None
) -> list[NameImpact]:
    of, name = category.module_id, category.module.name
    pointing = _pointing(name, aliases_of(session, [of])[of], newest_of(session, [of]).get(of))
    here = [each for each in pointing if each.number == category.number and category.yanked_at is None]
    fields = {"ref": category.ref, "kind": "category", "served": True, "effect": effect, "then": then}
    way = LineageEdge(child=network.ref, parent=category.ref, role="category")
    fields |= {"outputs": [network.module.name], "why": [way]}
    # It answers under its number in any case: to be said where no name leads to it.
    shown = here or [_Pointed(category.ref, category.number, False, False)]
    return [
        NameImpact.model_validate({"reference": each.reference, "default": each.default, **fields}) for each in shown
    ]


def _category(network: Version) -> str | None:
    digest: str | None = (network.parts or {}).get("category")
    return digest


def _version(session: Session, module_id: int, ref: str | None) -> Version | None:
    if ref is None:
        return None
    number = int(ref.rpartition(":")[2])
    return session.scalar(select(Version).where(Version.module_id == module_id, Version.number == number))
