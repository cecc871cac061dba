"""What every settings class shares: unknown keys are errors, instances are frozen, docstrings are the documentation."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all settings; the docstring under each field is its only documentation and becomes docs/config.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
