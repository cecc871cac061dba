"""The ways conversations are written down by others, brought to ours: OpenAI's messages, bare arrays, ShareGPT."""

from collections.abc import Mapping, Sequence
from typing import Any

from nanochat.data.conversation import Conversation, validate
from nanochat.errors import DataError

_OPENAI_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}
_FORMS = (
    '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, a bare array of such '
    'messages, or {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}'
)


def normalise(entry: Any, where: str = "") -> Conversation:
    """Bring one conversation to `{"messages": [{"role", "content"}, …]}` with nothing beside it, and check it.

    Args:
        entry: what a line of JSON holds.
        where: file and line to name in the error.

    Raises:
        DataError: naming `where`, the place and what was expected.
    """
    prefix = f"{where}: " if where else ""
    if isinstance(entry, Mapping) and "messages" not in entry and "conversations" in entry:
        messages = [_sharegpt(message, f"{prefix}conversations[{n}]") for n, message in _items(entry["conversations"])]
    else:
        found = entry.get("messages") if isinstance(entry, Mapping) else entry
        if not isinstance(found, list):
            raise DataError(f"{prefix}expected {_FORMS}; found {_short(entry)}")
        messages = [_openai(message, f"{prefix}messages[{n}]") for n, message in _items(found)]
    conversation: Conversation = {"messages": messages}  # type: ignore[typeddict-item]
    validate(conversation, where)
    if not any(message["role"] == "assistant" for message in messages):
        raise DataError(f"{prefix}no message of the assistant, so there is nothing to learn from it")
    return conversation


def _items(value: Any) -> list[tuple[int, Any]]:
    return list(enumerate(value)) if isinstance(value, list) else [(0, value)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _role(message: Any, key: str, known: Mapping[str, str], place: str) -> str:
    if not isinstance(message, Mapping) or key not in message:
        raise DataError(f"{place}: expected {_FORMS}; found {_short(message)}")
    role = message[key]
    if role in ("tool", "function", "observation", "function_call") or message.get("tool_calls"):
        raise DataError(
            f"{place}: calls of tools in this form (role {role!r}) cannot be learned; leave the conversation out, or "
            'write the call into the assistant\'s content as parts {"type": "python" | "python_output", "text": "…"}'
        )
    if not isinstance(role, str) or role not in known:
        raise DataError(f"{place}: {key} is {role!r}, expected one of {', '.join(known)}")
    return known[role]


def _sharegpt(message: Any, place: str) -> dict[str, Any]:
    role = _role(message, "from", _SHAREGPT_ROLES, place)
    value = message.get("value")
    if not isinstance(value, str):
        raise DataError(f"{place}.value: expected a string, found {_short(value)}")
    return {"role": role, "content": _text(value, f"{place}.value")}


def _openai(message: Any, place: str) -> dict[str, Any]:
    role = _role(message, "role", _OPENAI_ROLES, place)
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str) and content:
        kinds = {part.get("type") if isinstance(part, Mapping) else None for part in content}
        other = [kind for kind in kinds if kind not in ("text", "python", "python_output")]
        if other:
            raise DataError(f"{place}.content has a part of type {other[0]!r}; expected text, python or python_output")
        if any(not isinstance(part.get("text"), str) for part in content):
            raise DataError(f"{place}.content has a part without a text: {_short(content)}")
        if kinds == {"text"}:
            content = "".join(part["text"] for part in content)
        else:
            content = [{"type": part["type"], "text": _text(part["text"], f"{place}.content")} for part in content]
    elif not isinstance(content, str):
        raise DataError(f"{place}.content: expected a string or a list of parts, found {_short(content)}")
    return {"role": role, "content": _text(content, f"{place}.content") if isinstance(content, str) else content}


def _text(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{place} holds half of a surrogate pair (\\ud800 to \\udfff), which is no text") from None
    return text
