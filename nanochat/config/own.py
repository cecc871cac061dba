"""Settings of the user's own data: text to pretrain on, conversations to finetune on, a persona."""

from typing import Literal

from pydantic import Field, field_validator

from nanochat.config.base import Settings
from nanochat.config.catalogue import Corpus, TaskEntry, load_catalogue

OWN = "own"
"""Name of the corpus of the user's own text."""
OWN_CORPUS = Corpus(repo="own/text", licence="yours")
PERSONA = "persona"
"""Name of the task that a persona is expanded to."""


class OwnTextSettings(Settings):
    """The user's own text, the corpus `own`."""

    files: tuple[str, ...] = ()
    """Files, folders (with all text that is below them) or patterns such as `notes/*.md`: parquet, jsonl, plain text,
    each also .gz or .zst."""
    column: str = "text"
    """Column of parquet files, key of jsonl objects, that holds the text."""
    document_chars: int = Field(default=100_000, ge=1000)
    """Longer documents are cut, at the end of a paragraph where there is one."""
    val_fraction: float = Field(default=0.02, gt=0, lt=0.5)
    """Share of the documents, chosen by hash, held out as the validation text."""
    shards: int | None = Field(default=None, ge=1, le=10_000)
    """Training shards to make; none is one for each 64 MB of input."""


class PersonaSettings(Settings):
    """Who the model is: a short file, expanded to conversations, the task `persona`."""

    file: str | None = None
    """YAML file with the persona."""
    conversations: int = Field(default=2000, ge=10, le=100_000)
    """Number of conversations it is expanded to."""


class OwnSettings(Settings):
    """The user's own data, to be named in `data.mixture` (`own`) and in the mixtures of mid and sft."""

    text: OwnTextSettings = OwnTextSettings()
    conversations: dict[str, str] = Field(default={})
    """Name → jsonl file, folder or pattern of conversations. The name is then a task for the mixtures."""
    persona: PersonaSettings = PersonaSettings()
    on_damage: Literal["stop", "skip"] = "stop"
    """What happens with a damaged file, or with conversations that don't follow the schema: `stop` says what is wrong
    and makes nothing, `skip` leaves it out and counts it."""

    @field_validator("conversations")
    @classmethod
    def _names_are_plain(cls, conversations: dict[str, str]) -> dict[str, str]:
        for name in conversations:
            if not name.replace("_", "").replace("-", "").isalnum() or name == PERSONA:
                raise ValueError(f"{name!r} is no name for a task; expected letters, digits, - and _, not `{PERSONA}`")
        return conversations

    @property
    def tasks(self) -> dict[str, TaskEntry]:
        """The tasks made of the user's own conversations and persona."""
        names = [*self.conversations, *([PERSONA] if self.persona.file else [])]
        return {name: own_task(name) for name in names}


def own_task(name: str) -> TaskEntry:
    """Entry of a task that is not in the catalogue; its file lies below the folder of own conversations."""
    return TaskEntry(kind="conversations", train=(f"{name}/conversations.jsonl",), licence="yours")


def task_entry(name: str) -> TaskEntry:
    """Entry of a task of the catalogue; for any other name (the configuration is checked) of one of the user's own."""
    return load_catalogue().tasks.get(name) or own_task(name)
