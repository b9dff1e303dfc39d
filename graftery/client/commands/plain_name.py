"""What the plain name means after a new version was made: the alias `default` does not move by itself."""

from __future__ import annotations

from contextlib import suppress

from graftery.client.commands.options import note
from graftery.client.http import Client
from graftery.errors import GrafteryError


def tell_plain_name(client: Client, ref: str) -> None:
    """A note where the plain name still means another version than NAME:NUMBER, with the command that moves it.

    What was asked for is done by then, so a service that does not answer this is no error.
    """
    name, _, number = ref.rpartition(":")
    if number == "1":
        return
    with suppress(GrafteryError):
        default = client.module(name).aliases.get("default")
        if default is not None and str(default) != number:
            note(f"{name} still means {name}:{default}; `graftery alias {name} default {number}` moves it to {ref}")
