"""Settings of the export to Hugging Face."""

from typing import Literal

from pydantic import Field

from nanochat.config.base import Settings


class ExportSettings(Settings):
    """The folder that `snakemake export` writes for transformers."""

    stage: Literal["auto", "base", "mid", "sft", "rl"] = "auto"
    """Checkpoint to export; `auto` takes the last chat stage there is, and where there is none yet, makes the run's."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type the weights are stored in; bfloat16 halves the files and rounds them."""
    name: str | None = Field(default=None, min_length=1, pattern=r"^[^\n{}]+$")
    """Title of the model card; none takes the run's name and the stage."""
