"""docs/config.md tells the truth about the settings."""

from nanochat.config import RunConfig
from nanochat.config.base import Settings
from nanochat.config.document import render
from tests.conftest import REPOSITORY


def test_the_page_is_current():
    command = "python -m nanochat.config.document > docs/config.md"
    assert (REPOSITORY / "docs" / "config.md").read_text() == render(), f"run: {command}"


def test_every_key_is_documented():
    def undocumented(settings: type[Settings], where: str) -> list[str]:
        missing = []
        for key, field in settings.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Settings):
                missing += undocumented(inner, f"{where}{key}.")
            elif not field.description:
                missing.append(where + key)
        return missing

    assert undocumented(RunConfig, "") == []
