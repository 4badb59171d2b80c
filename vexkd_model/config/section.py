"""Base class and field types of every part of a configuration."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vexkd_model.types import BevGrid

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """Part of a configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GridConfig(Section):
    """Square BEV grid of `cell` metres, ±`extent` metres around the origin of its frame: base_link, or `frame`'s."""

    extent: Positive
    cell: Positive

    @model_validator(mode="after")
    def _divides(self) -> "GridConfig":
        self.grid()
        return self

    def grid(self) -> BevGrid:
        """Convert to the grid that code computes with."""
        return BevGrid(-self.extent, self.extent, -self.extent, self.extent, self.cell)
