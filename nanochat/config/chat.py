"""Settings of talking to a model: the chat window, the terminal chat, the API."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from nanochat.config.base import Settings

SECRETS = ("password", "api_key")
"""Keys of `chat` that are never written to an artifact, a log or a command line."""


def _slots(value: object) -> object:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class ChatSettings(Settings):
    """The chat window, the terminal chat and the API.

    Of these keys only `temperature`, `top_k` and `max_new_tokens` go into an artifact: an export names them as what the
    model is best asked with.
    """

    host: str = "127.0.0.1"
    """Address to listen on; anything else than localhost is reachable from outside."""
    port: int = Field(default=7860, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    password: str | None = Field(default=None, min_length=1)
    """Asked of every visitor (user name `nanochat`) where set; better in the environment: NANOCHAT_PASSWORD."""
    api_key: str | None = Field(default=None, min_length=1)
    """Asked of every client of the API where set, as `Authorization: Bearer …`; or NANOCHAT_API_KEY. Where only a
    password is set, that is the key."""
    origins: tuple[str, ...] = ()
    """Web pages of other servers, such as `http://localhost:3000`, whose scripts may use the API; `*` for all."""
    stage: Literal["auto", "base", "mid", "sft", "rl"] = "auto"
    """Checkpoint to chat with; `auto` takes the last stage of the run."""
    temperature: float = Field(default=0.8, ge=0, le=2)
    """Sampling temperature, where nothing else is asked for."""
    top_k: int | None = Field(default=50, ge=1)
    """Top-k, where nothing else is asked for; null samples from all tokens."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Top-p, where nothing else is asked for; null samples from all tokens."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Length limit of an answer in the window and the terminal; the API's is the rest of the context."""
    system: str = ""
    """System prompt of new conversations."""
    prompt: str | None = None
    """For `chat_cli`: answer this and end."""
    conversations: str = "results/conversations"
    """Folder in which conversations are kept, one file each."""
    slots: Annotated[int | Literal["auto"], BeforeValidator(_slots)] = "auto"
    """Answers generated at the same time by one model; `auto`: 64, or as many as a quarter of the free memory holds."""
    queue: int = Field(default=256, ge=0)
    """Answers that wait for a free slot; beyond that a request is turned away (429)."""
    request_seconds: float = Field(default=600.0, gt=0)
    """The longest an answer may take, waiting included; what there is by then is the answer."""
    request_bytes: int = Field(default=4_000_000, ge=1)
    """The largest request the API reads."""
    models: int = Field(default=4, ge=1)
    """Models kept in memory; beyond that the one not spoken to for longest goes."""
