"""infer and serve."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from graftery.client.commands.options import Json, Url, connect, note, say, say_json
from graftery.client.packing import existing, reading
from graftery.client.tensors import Array
from graftery.errors import InferenceRefused


def infer(
    ref: Annotated[str, typer.Argument(help="A served network: name, name:3 or name@alias.")],
    *,
    source: Annotated[
        Path, typer.Option("--input", "-i", help=".npy, .npz (one array an input) or .json: rows of samples.")
    ],
    target: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the answer here: .npy, .npz or .json.")
    ] = None,
    only: Annotated[
        list[str], typer.Option(help="An output that is wanted; several times. By default all. Others are not run.")
    ] = [],  # noqa: B006
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Ask a served network.

    Examples:
      graftery infer cat-in-animals --input x.npy
      graftery infer cat-in-animals@stable --input x.npy --output y.npy
      graftery infer cat-in-animals:3 --input x.json --json
      graftery infer zoo --input x.npy --only cat..animals-is --only dog..animals-is
    """
    x = _read(existing(source))
    with connect(url) as client:
        answer = client.infer(ref, x, outputs=only or None)
    arrays = answer if isinstance(answer, dict) else {"output": answer}
    if target is not None:
        _write(target, arrays)
        note(f"{target}: {', '.join(f'{name} {list(array.shape)}' for name, array in arrays.items())}")
    if as_json:
        say_json({name: array.tolist() for name, array in arrays.items()})
    elif target is None:
        for name, array in arrays.items():
            say(f"{name} {array.dtype} {list(array.shape)}\n{array}")


def serve(
    *,
    home: Annotated[Path | None, typer.Option(help="Where data are kept; by default your data directory.")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen at; by default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="By default 8080; 0: a free one.")] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Where inference answers gRPC too; by default it does not.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Job workers; by default 1.")] = None,
    access: Annotated[
        str | None, typer.Option(help="Who may ask: keys, open (everybody), or auto: keys where others reach it.")
    ] = None,
) -> None:
    """Start the service: registry, inference and job workers. Ctrl-C ends all of it.

    Every other setting is an environment variable GRAFTERY_...; docs/getting-started.md says which.

    Examples:
      graftery serve
      graftery serve --home ./data --port 9000
    """
    given = {"--home": home, "--host": host, "--port": port, "--grpc-port": grpc_port, "--workers": workers}
    given["--access"] = access
    options = [text for key, value in given.items() if value is not None for text in (key, str(value))]
    sys.stdout.flush()
    # Exec, not a child: signals and the exit code are the service's own. -P: a folder `app` here is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "app.serve", *options])  # noqa: S606


def _read(path: Path) -> Array | dict[str, Array]:
    with reading(path, InferenceRefused):
        if path.suffix == ".json":
            return _arrays(json.loads(path.read_text()))
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found as arrays:
            return dict(arrays)


def _arrays(document: Any) -> Array | dict[str, Array]:
    if isinstance(document, dict):
        return {name: np.asarray(value) for name, value in document.items()}
    return np.asarray(document)


def _write(path: Path, arrays: dict[str, Array]) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps({name: array.tolist() for name, array in arrays.items()}))
    elif path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
    elif path.suffix == ".npy" and len(arrays) == 1:
        np.save(path, next(iter(arrays.values())))
    else:
        raise typer.BadParameter(f"--output {path}: end it with .npz or .json (.npy holds one output)")
