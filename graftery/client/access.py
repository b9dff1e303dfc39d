"""Verbs for admins: keys, and the log of every change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from graftery.client.answers import parse
from graftery.client.verbs import Verbs, request_of
from graftery.spec.access import AuditOut, KeyMade, KeyOut, KeyRequest, RotateRequest
from graftery.spec.names import check_name


class AccessVerbs(Verbs):
    def keys(self, *, limit: int | None = None) -> Iterator[KeyOut]:
        """Every key by its name, revoked and expired ones too."""
        return self._pages(KeyOut, "/v1/keys", limit=limit)

    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        namespaces: Sequence[str] | None = None,
        expires_in_s: float | None = None,
    ) -> KeyMade:
        """Make a key; its `secret` is in this answer only.

        Raises:
            Conflict: the name is, or was, that of another key.
        """
        said = {"scopes": [*scopes], "namespaces": namespaces and [*namespaces], "expires_in_s": expires_in_s}
        body = request_of(KeyRequest, said).model_dump(exclude_none=True)
        return parse(KeyMade, self._transport.request("PUT", _path(name), json=body))

    def rotate_key(self, name: str, *, overlap_s: float = 0.0) -> KeyMade:
        """Give a key a new secret; the one before is taken for `overlap_s` more."""
        body = request_of(RotateRequest, {"overlap_s": overlap_s}).model_dump()
        return parse(KeyMade, self._transport.request("PUT", f"{_path(name)}/secret", json=body))

    def revoke_key(self, name: str) -> None:
        """Take a key back for good."""
        self._transport.request("DELETE", _path(name))

    def audit(
        self,
        *,
        by: str | None = None,
        name: str | None = None,
        action: str | None = None,
        limit: int | None = None,
    ) -> Iterator[AuditOut]:
        """Every change, newest first: who, when, what, in which request."""
        return self._pages(AuditOut, "/v1/audit", limit=limit, by=by, name=name, action=action)


def _path(name: str) -> str:
    return f"/v1/keys/{quote(check_name(name), safe='')}"
