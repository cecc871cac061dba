"""Conversations: their schema, and how they become token ids with a mask of what the assistant itself produces.

    {"messages": [{"role": "system"?}, {"role": "user"}, {"role": "assistant"}, …]}

Content is a text or, for the assistant, a list of parts: `text`, `python` (a tool call) and `python_output` (what the
tool answered). Rendered:

    <|bos|><|user_start|>…<|user_end|><|assistant_start|>…<|python_start|>6*7<|python_end|>
    <|output_start|>42<|output_end|>…<|assistant_end|>

A system message is put before the first user message with a blank line between.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError


class Part(TypedDict):
    """A piece of an assistant message; `type` is text, python or python_output."""

    type: str
    text: str


class Message(TypedDict):
    """One turn; `role` is system, user or assistant."""

    role: str
    content: str | list[Part]


class Conversation(TypedDict):
    """Messages, and whatever else a task wants to keep beside them."""

    messages: list[Message]
    source: NotRequired[str]


Rendered = tuple[list[int], list[int]]
"""Token ids, and 1 for each that the assistant itself produces."""

_Span = tuple[str, bool, int]
"""(text or special token's name, whether it is a special token, mask)."""

# part type -> (opening token, closing token, mask); a tool's answer is not the assistant's own.
_BRACKETS: Mapping[str, tuple[str, str, int]] = {
    "python": ("<|python_start|>", "<|python_end|>", 1),
    "python_output": ("<|output_start|>", "<|output_end|>", 0),
}


def validate(conversation: Any, where: str = "") -> None:
    """Check the schema: an optional system message, then user and assistant in turns, none empty.

    Args:
        conversation: what was read.
        where: file, line or item to name in the error.

    Raises:
        DataError: naming `where` and the place in the conversation.
    """
    prefix = f"{where}: " if where else ""
    messages = conversation.get("messages") if isinstance(conversation, Mapping) else None
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise DataError(
            f"{prefix}expected {{'messages': [message, …]}} with at least one message, {_seen(conversation)}"
        )
    offset = 0
    for number, message in enumerate(messages):
        place = f"{prefix}messages[{number}]"
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise DataError(f"{place}: expected {{'role': …, 'content': …}}, {_seen(message)}")
        role = message["role"]
        if role == "system" and number == 0:
            offset = 1
        else:
            expected = "user" if (number - offset) % 2 == 0 else "assistant"
            if role != expected:
                raise DataError(
                    f"{place}: role is {role!r}, expected {expected!r} (an optional system message, then user and "
                    "assistant in turns)"
                )
        _validate_content(message["content"], role, place)
    if len(messages) == offset:
        raise DataError(f"{prefix}a system message must be followed by a user message")


def _validate_content(content: Any, role: str, place: str) -> None:
    if isinstance(content, str):
        if not content.strip():
            raise DataError(f"{place}.content is empty; expected text")
        return
    if role != "assistant":
        raise DataError(f"{place}.content of role {role}: expected a string, {_seen(content)}")
    if not isinstance(content, Sequence) or not content:
        raise DataError(f"{place}.content: expected a string or a list of parts, {_seen(content)}")
    for number, part in enumerate(content):
        kinds = ("text", *_BRACKETS)
        if not isinstance(part, Mapping) or part.get("type") not in kinds or not isinstance(part.get("text"), str):
            raise DataError(
                f"{place}.content[{number}]: expected {{'type': {' | '.join(kinds)}, 'text': string}}, {_seen(part)}"
            )


def _seen(value: Any) -> str:
    text = repr(value)
    return f"found {text if len(text) <= 80 else text[:80] + '…'}"


def _spans(messages: Sequence[Message]) -> list[_Span]:
    spans: list[_Span] = [("<|bos|>", True, 0)]
    system = ""
    for message in messages:
        content = message["content"]
        if message["role"] == "system":
            system = f"{content}\n\n"
        elif message["role"] == "user":
            spans += [("<|user_start|>", True, 0), (f"{system}{content}", False, 0), ("<|user_end|>", True, 0)]
            system = ""
        else:
            spans.append(("<|assistant_start|>", True, 0))
            for part in [Part(type="text", text=content)] if isinstance(content, str) else content:
                if part["type"] == "text":
                    spans.append((part["text"], False, 1))
                else:
                    opening, closing, mask = _BRACKETS[part["type"]]
                    spans += [(opening, True, mask), (part["text"], False, mask), (closing, True, mask)]
            spans.append(("<|assistant_end|>", True, 1))
    return spans


def _join(tokenizer: Tokenizer, spans: Iterable[_Span], encoded: Iterable[list[int]]) -> Rendered:
    """Put ids for the spans together, taking those of plain text from `encoded` in turn."""
    texts = iter(encoded)
    ids: list[int] = []
    mask: list[int] = []
    for text, is_special, produced in spans:
        piece = [tokenizer.special[text]] if is_special else next(texts)
        ids += piece
        mask += [produced] * len(piece)
    return ids, mask


def render(tokenizer: Tokenizer, conversation: Conversation) -> Rendered:
    """Token ids of a conversation, and a mask of equal length: 1 where the assistant itself produces the token.

    Mask 1: assistant text, `<|python_start|>…<|python_end|>` and `<|assistant_end|>`. Mask 0: everything else, the
    tool's output and `<|assistant_start|>` among it.

    Raises:
        DataError: if the conversation does not follow the schema.
    """
    return render_batch(tokenizer, [conversation])[0]


def render_batch(tokenizer: Tokenizer, conversations: Sequence[Conversation], where: str = "") -> list[Rendered]:
    """`render` for many conversations at once, several times faster.

    Raises:
        DataError: naming `where` and the number of the first conversation that does not follow the schema.
    """
    many = len(conversations) > 1
    for number, conversation in enumerate(conversations):
        validate(conversation, f"{where}[{number}]" if many else where)
    spans = [_spans(conversation["messages"]) for conversation in conversations]
    encoded = iter(tokenizer.encode_batch([text for row in spans for text, special, _ in row if not special]))
    return [_join(tokenizer, row, encoded) for row in spans]


def render_prompt(tokenizer: Tokenizer, conversation: Conversation) -> list[int]:
    """Token ids up to and including `<|assistant_start|>`, for the model to go on from.

    A final assistant message (the reference answer) is dropped.

    Raises:
        DataError: if the conversation does not follow the schema or then does not end with a user message.
    """
    validate(conversation)
    messages = list(conversation["messages"])
    if messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages or messages[-1]["role"] != "user":
        raise DataError(f"a prompt must end with a user message, {_seen(conversation['messages'])}")
    spans = [*_spans(messages), ("<|assistant_start|>", True, 0)]
    encoded = [tokenizer.encode(text) for text, special, _ in spans if not special]
    return _join(tokenizer, spans, encoded)[0]
