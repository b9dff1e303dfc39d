"""The protocol's documents other than the infer request: what the routes under /v2 answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from graftery import __version__
from graftery.spec.manifest import json_of
from serving.branches import Cell, Model
from serving.protocol import Declared

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
PLATFORM = "graftery"


class ErrorDocument(BaseModel):
    error: str = Field(examples=["input 'input': expected datatype FP32, got 'FP64'"])


class Live(BaseModel):
    live: bool = True


class Ready(BaseModel):
    ready: bool = True


class ModelReady(BaseModel):
    name: str
    ready: bool = True


class ServerMetadata(BaseModel):
    name: str = "graftery"
    version: str = __version__
    extensions: list[str] = list(EXTENSIONS)


class TensorMetadata(BaseModel):
    name: str = Field(examples=["input"])
    datatype: str = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[-1, 3, 32, 32]], description="-1: the batch, which is first, or a free size")
    parameters: dict[str, Any] = Field({}, description="What the numbers mean")


class ModelMetadata(BaseModel):
    name: str = Field(examples=["cat-in-animals"])
    versions: list[str] = Field(examples=[["1", "2"]])
    platform: str = PLATFORM
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelNames(BaseModel):
    models: list[str]


class IndexEntry(BaseModel):
    name: str
    version: str
    state: str = Field(examples=["READY"], description="READY (loaded when first asked) or UNAVAILABLE")
    reason: str = ""


class ModelState(BaseModel):
    name: str
    version: str
    state: str


class OutputTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferReply(BaseModel):
    """The JSON part of the answer; outputs without `data` follow it as bytes."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


def metadata(model: Model, versions: list[str]) -> ModelMetadata:
    """Inputs and outputs with what their numbers mean."""
    return ModelMetadata(
        name=model.name,
        versions=versions,
        inputs=[_tensor(*each) for each in _inputs(model)],
        outputs=[
            _tensor(
                output.declared,
                output.spec.model_dump(mode="json", include={"semantics", "class_names", "unit"}, exclude_none=True)
                | _cell(branch.cell),
            )
            for branch in model.branches
            for output in branch.outputs
        ],
    )


def _inputs(model: Model) -> list[tuple[Declared, dict[str, Any]]]:
    """The input with how it is prepared; where a generic network's categories read different ones, each form with its categories."""
    found = []
    for declared, preprocessing, categories in model.inputs:
        prepared: dict[str, Any] = {}
        if preprocessing is not None:
            prepared["preprocessing"] = json_of(preprocessing)
        if declared.image is not None:
            prepared["encoded_images"] = declared.image.document()
        if categories:
            prepared["categories"] = categories
        found.append((declared, prepared))
    return found


def _cell(cell: Cell | None) -> dict[str, str]:
    return {} if cell is None else {"category": cell.category, "task": cell.task, "network": cell.network}


def config(model: Model, versions: list[str], max_batch: int, kind: str, delay_us: int) -> dict[str, Any]:
    """Triton's model configuration, as far as it has a meaning here."""
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"specific": {"versions": [int(version) for version in versions]}},
        "max_batch_size": max_batch,
        "dynamic_batching": {"max_queue_delay_microseconds": delay_us},
        "input": [_configured(declared) for declared, *_ in model.inputs],
        "output": [_configured(output.declared) for output in model.outputs.values()],
        "instance_group": [{"name": f"{model.name}_0", "kind": kind, "count": 1}],
    }


def _tensor(declared: Declared, parameters: dict[str, Any]) -> TensorMetadata:
    return TensorMetadata(
        name=declared.name, datatype=declared.datatype, shape=list(declared.shape), parameters=parameters
    )


def _configured(declared: Declared) -> dict[str, Any]:
    # Where max_batch_size is set, the batch is left out of dims.
    return {"name": declared.name, "data_type": f"TYPE_{declared.datatype}", "dims": list(declared.shape[1:])}
