"""Keys and the audit log, as they cross HTTP; what a scope includes, and what a namespace holds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from graftery.spec.names import NAME_PATTERN
from graftery.spec.wire import Request, Wire

Scope = Literal["read", "push", "transplant", "infer", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "push", "transplant", "infer", "admin")
_INCLUDED: dict[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "push": frozenset({"read", "push"}),
    "transplant": frozenset({"read", "transplant"}),
    "infer": frozenset({"infer"}),
    "admin": frozenset(SCOPES),
}
MAX_LIFE_S = 10 * 366 * 24 * 3600.0
MAX_OVERLAP_S = 30 * 24 * 3600.0


def granted(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """The scopes with all that they include: who changes something may look at it, admin may do everything."""
    return frozenset[Scope]().union(*(_INCLUDED[scope] for scope in scopes))


def is_within(name: str, namespaces: Iterable[str]) -> bool:
    """Whether `namespace.rest` is a name of one of these namespaces."""
    return any(name.startswith(f"{namespace}.") for namespace in namespaces)


def _sorted(values: list[str]) -> list[str]:
    return sorted(set(values))


Scopes = Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES)), AfterValidator(_sorted)]
Namespace = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$", max_length=64, examples=["vision"])]


_ADMIN_SOMEWHERE: JsonDict = {
    "required": ["scopes", "namespaces"],
    "properties": {"scopes": {"contains": {"const": "admin"}}, "namespaces": {"type": "array"}},
}


class KeyRequest(Request):
    """What a key may do, and for how long."""

    model_config = ConfigDict(json_schema_extra={"not": _ADMIN_SOMEWHERE})

    scopes: Scopes = Field(examples=[["push", "transplant"]])
    namespaces: Annotated[list[Namespace], AfterValidator(_sorted)] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="It changes only what is called NAMESPACE.NAME in one of these; null: whatever its scopes allow",
    )
    expires_in_s: float | None = Field(
        None, gt=0, le=MAX_LIFE_S, strict=True, description="Seconds from now; null: it does not"
    )

    @model_validator(mode="after")
    def _admin_is_everywhere(self) -> KeyRequest:
        # An admin makes keys: limits on the one would be none.
        if "admin" in self.scopes and self.namespaces is not None:
            raise ValueError("a key with the scope admin has no namespaces")
        return self


class RotateRequest(Request):
    overlap_s: float = Field(
        0.0, ge=0, le=MAX_OVERLAP_S, strict=True, description="Seconds for which the secret before is taken as well"
    )


class KeyOut(Wire):
    """A key without its secret, which nobody has but its owner."""

    name: str
    id: str = Field(description="Stands in the key itself, behind `gft_`")
    scopes: list[Scope]
    namespaces: list[str] | None = None
    state: Literal["active", "expired", "revoked"]
    created_at: datetime
    created_by: str | None = None
    expires_at: datetime | None = None
    rotated_at: datetime | None = None
    overlap_until: datetime | None = Field(None, description="Until then the secret before the rotation is taken too")
    revoked_at: datetime | None = None


class KeyMade(KeyOut):
    """A key with its secret: this answer is the only place where it stands."""

    secret: str = Field(description="What is sent as `Authorization: Bearer ...`")


class AuditOut(Wire):
    """One change: who made it, when, of what, in which request."""

    id: int
    at: datetime
    by: str | None = Field(None, description="The key's name, `job ID`, or `local USER`; null: keys were not asked for")
    action: str = Field(examples=["publish"])
    what: str = Field(examples=["cat:1"])
    request_id: str | None = None
    details: dict[str, Any] | None = None
