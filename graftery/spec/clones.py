"""What crosses HTTP of clones: asking for one, and putting them into networks and out again."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from graftery.spec.recipes import CloneRecipe
from graftery.spec.references import Alias, Name, Ref, distinct
from graftery.spec.wire import Request

ClassName = Annotated[str, Field(min_length=1, max_length=200, examples=["owl"])]


class CloneRequest(Request):
    """Copy some classes of a source network into a clone that the target network can carry."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "owl", "source": "birds", "target": "animals", "want": ["owl"], "samples": "few-animals"},
                {
                    "name": "owl",
                    "source": "birds",
                    "target": "animals",
                    "want": ["owl"],
                    "samples": "few-animals",
                    "network": "animals-and-owl",
                    "recipe": {"keep": 0.2, "positions": ["category.blocks.2"]},
                },
            ],
            # As `_alias_of_a_network` has it.
            "not": {"required": ["alias"], "properties": {"alias": {"type": "string"}, "network": {"type": "null"}}},
        },
    )

    name: Name = Field(description="Of the clone")
    source: Ref = Field(description="The network that knows the wanted classes")
    target: Ref = Field(description="The network that they are added to; not a bit of it changes")
    want: Annotated[list[ClassName], AfterValidator(distinct)] = Field(
        min_length=1,
        max_length=1000,
        description="Classes of the source (`class 3` where it has no names), in the order of the clone's logits",
        json_schema_extra={"uniqueItems": True},
    )
    samples: Ref = Field(
        description="Labelled images, five of a class or more: the target's classes from 0, then the wanted ones"
    )
    evaluate_on: Ref | None = Field(None, description="Samples to measure on, labelled so; never trained on")
    source_evaluate_on: Ref | None = Field(
        None, description="Samples of the source's own classes, to measure what else of the source was cloned"
    )
    recipe: CloneRecipe = Field(default_factory=CloneRecipe)
    network: Name | None = Field(None, description="Publish the target with the clone under this name, too")
    alias: Alias | None = Field(None, description="Point this alias of `network` at the new version")

    @model_validator(mode="after")
    def _alias_of_a_network(self) -> Self:
        if self.alias is not None and self.network is None:
            raise ValueError("alias is of the network with the clone, and no network is named")
        return self


class ClonesRequest(Request):
    """Put clones into a network, or take them out of it: a new version, of the same modules."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"clones": ["owl"], "alias": "default"}]})

    clones: Annotated[list[Ref], AfterValidator(distinct)] = Field(
        min_length=1, max_length=64, json_schema_extra={"uniqueItems": True}
    )
    name: Name | None = Field(None, description="To publish under; by default the network's own")
    alias: Alias | None = Field(None, description="Point this alias of the name at that version")
