"""What every settings class shares: unknown keys are errors, instances are frozen, docstrings are the documentation."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

T = TypeVar("T")


class Settings(BaseModel):
    """Base of all settings; the docstring under each field is its only documentation and becomes docs/config.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def _without_nulls(entries: Any) -> Any:
    if not isinstance(entries, Mapping):
        return entries
    # snakemake --config hands over a null as text
    return {name: entry for name, entry in entries.items() if entry not in (None, "null")}


Named = Annotated[dict[str, T], BeforeValidator(_without_nulls)]
"""Entries by name; `name: null` takes one out that a configuration file merged before has put in."""
