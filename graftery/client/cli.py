"""`graftery`: the client's verbs on a command line.

Answers go to standard output, everything else to standard error. An error is one line,
`error[code]: message (hint)`, with exit code 1; wrong usage has exit code 2; Ctrl-C 130.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from graftery import __version__
from graftery.client.commands import (
    backup,
    browse,
    change,
    clones,
    compat,
    generic,
    grow,
    keys,
    matrix,
    precheck,
    publish,
    use,
    verify,
    withdraw,
    work,
)
from graftery.errors import GrafteryError

GROUPS: dict[str, dict[str, Callable[..., Any]]] = {
    "Files": {"push": publish.push, "pull": publish.pull, "verify": verify.verify, "layers": publish.layers},
    "What is there": {
        "list": browse.list_modules,
        "inspect": browse.inspect,
        "versions": browse.versions,
        "lineage": browse.lineage,
        "impact": withdraw.impact,
        "served": browse.served,
    },
    "Names": {
        "alias": change.alias,
        "aliases": change.aliases,
        "rollback": change.rollback,
        "describe": change.describe,
        "yank": withdraw.yank,
        "unyank": withdraw.unyank,
        "delete": withdraw.delete,
        "compose": change.compose,
    },
    "Work": {
        "precheck": precheck.precheck,
        "transplant": work.transplant,
        "clone": clones.clone,
        "attach": clones.attach,
        "detach": clones.detach,
        "grow": grow.grow,
        "matrix": matrix.matrix,
        "jobs": work.jobs,
        "watch": work.watch,
        "cancel": work.cancel,
        "retry": work.retry,
        "infer": use.infer,
    },
    "The service": {
        "serve": use.serve,
        "health": browse.health,
        "collect": work.collect,
        "export": backup.export,
        "import": backup.import_,
        "audit": keys.audit,
    },
}
COMPAT: dict[str, Callable[..., Any]] = {
    "init": compat.init,
    "train": compat.train,
    "check": compat.check,
    "matrix": compat.matrix,
}
GENERIC: dict[str, Callable[..., Any]] = {
    "create": generic.create,
    "list": generic.list_generics,
    "add": generic.add,
    "remove": generic.remove,
    "place": generic.place,
    "consolidate": generic.consolidate,
    "promote": generic.promote,
    "rollback": generic.rollback,
    "changes": generic.changes,
    "certificate": generic.certificate,
    "delete": generic.delete,
}
KEYS: dict[str, Callable[..., Any]] = {
    "create": keys.create,
    "list": keys.list_keys,
    "rotate": keys.rotate,
    "revoke": keys.revoke,
    "save": keys.save,
}


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"graftery {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keep neural modules, join them, ask them.

    Examples:
      graftery serve
      graftery push cat cat.safetensors
      graftery transplant cat animals-is --name cat-in-animals
      graftery infer cat-in-animals --input x.npy
    """


def _application() -> typer.Typer:
    application = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
    application.callback()(_root)
    for panel, verbs in GROUPS.items():
        for name, verb in verbs.items():
            application.command(name, rich_help_panel=panel)(verb)
    _below(application, "compat", COMPAT, "Work", "Compatible components: train modules that join with no adapter.")
    _below(application, "generic", GENERIC, "Work", "Generic networks: categories by tasks, grown teacher by teacher.")
    _below(application, "keys", KEYS, "The service", "Keys: who may do what.")
    return application


def _below(application: typer.Typer, name: str, verbs: dict[str, Callable[..., Any]], panel: str, says: str) -> None:
    below = typer.Typer(no_args_is_help=True, help=says)
    for each, verb in verbs.items():
        below.command(each)(verb)
    application.add_typer(below, name=name, rich_help_panel=panel)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code."""
    try:
        result = _application()([*arguments], prog_name="graftery", standalone_mode=False)
    except TyperException as error:
        # Without a message: bare `graftery`, which has printed its help.
        text = error.format_message().removeprefix("Invalid value: ")
        return _fail("usage", text, _usage_hint(error), error.exit_code) if text.strip() else error.exit_code
    except typer.Abort:
        return _fail("aborted", "nothing was done")
    except GrafteryError as error:
        return _fail(error.code, error.message, _hint(error))
    except BrokenPipeError:
        # The reader of our output has seen enough (`graftery list | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail("os", str(error))
    return result if isinstance(result, int) else 0


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def _fail(code: str, message: str, hint: str | None = None, exit_code: int = 1) -> int:
    line = f"error[{code}]: {message}{f' ({hint})' if hint else ''}"
    typer.echo(" ".join(line.split()), err=True)
    return exit_code


def _hint(error: GrafteryError) -> str | None:
    """What helps: the service's own hint, names nearby, what stands in the way. Nothing is said a second time."""
    said = f"{error.message} {error.hint or ''}"
    near = [name for name in error.details.get("near") or () if name not in said]
    dependents = [ref for ref in error.details.get("dependents") or () if ref not in said]
    parts = [
        error.hint,
        f"did you mean {' or '.join(near[:3])}?" if near else None,
        f"used by {', '.join(dependents[:5])}" if dependents else None,
    ]
    return "; ".join(part for part in parts if part) or None


def _usage_hint(error: TyperException) -> str | None:
    context = getattr(error, "ctx", None)
    return f"see `{context.command_path} --help`" if context is not None else None


if __name__ == "__main__":
    main()
