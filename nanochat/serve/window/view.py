"""What the page is told, as JSON. All of it is text: the page never makes markup of it."""

from collections.abc import Sequence
from typing import Any

from nanochat.data.conversation import Message, Part
from nanochat.serve.conversations import Conversation, Summary
from nanochat.serve.examples import examples
from nanochat.serve.notation import as_text
from nanochat.serve.registry import Registry
from nanochat.serve.window.knobs import clean
from nanochat.serve.window.replies import Reply


def pieces(content: str | Sequence[Part]) -> list[dict[str, Any]]:
    """A message as the page draws it: `{"text"}`, and for a tool call `{"expression", "result"}`."""
    if isinstance(content, str):
        return [{"text": clean(content)}]
    shown: list[dict[str, Any]] = []
    for number, part in enumerate(content):
        if part["type"] == "text":
            shown.append({"text": clean(part["text"])})
        elif part["type"] == "python":
            following = content[number + 1] if number + 1 < len(content) else None
            answered = following is not None and following["type"] == "python_output"
            result = clean(following["text"]) if following is not None and answered else None
            shown.append({"expression": clean(part["text"]), "result": result})
    return shown


def _message(message: Message, note: str) -> dict[str, Any]:
    content = message["content"]
    return {"role": message["role"], "text": clean(as_text(content)), "pieces": pieces(content), "note": clean(note)}


def conversation_view(conversation: Conversation | None, models: Sequence[str], system: str) -> dict[str, Any]:
    """A conversation; for None an empty one that is not kept yet.

    Args:
        conversation: what is open.
        models: for an empty one: the names of its columns' models.
        system: for an empty one: its system prompt.
    """
    if conversation is None:
        columns = [{"model": model, "messages": [], "used": 0, "size": 0} for model in models]
        return {"id": "", "title": "", "system": clean(system), "columns": columns}
    columns = []
    for column in conversation.columns:
        notes = iter(column.notes)
        messages = [
            _message(message, next(notes, "") if message["role"] == "assistant" else "") for message in column.messages
        ]
        columns.append(
            {
                "model": clean(column.model),
                "messages": messages,
                "used": column.context_used,
                "size": column.context_size,
            }
        )
    title, system = clean(conversation.title), clean(conversation.system)
    return {"id": conversation.id, "title": title, "system": system, "columns": columns}


def live_view(reply: Reply) -> dict[str, Any]:
    """What is being written."""
    sides = [
        {
            "column": side.number,
            "state": side.state,
            "line": clean(side.line),
            "pieces": pieces(side.parts),
            "used": side.used + (side.tokens if side.state == "writing" else 0),
            "size": side.size,
        }
        for side in reply.sides
    ]
    return {"busy": not reply.over.is_set(), "sides": sides}


def list_view(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """The conversations, as they are listed."""
    return [{"id": one.id, "title": clean(one.title), "updated": one.updated} for one in summaries]


def catalogue(registry: Registry, defaults: dict[str, Any]) -> dict[str, Any]:
    """The models there are, with examples of what to ask them, and the settings to begin with.

    Raises:
        ArtifactError: if there is no checkpoint any more.
    """
    models = [
        {
            "name": checkpoint.name,
            "run": checkpoint.run,
            "stage": checkpoint.stage,
            "completes": checkpoint.stage == "base",
            "examples": examples(checkpoint.directory),
        }
        for checkpoint in registry.checkpoints
    ]
    return {"models": models, "default": registry.default, "defaults": defaults}
