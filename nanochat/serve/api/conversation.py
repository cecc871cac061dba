"""The messages of a request as a conversation the model was trained on."""

from collections.abc import Sequence

from nanochat.data.conversation import Message
from nanochat.serve.api.errors import ApiError
from nanochat.serve.api.requests import AssistantMessage, SystemMessage, UserMessage
from nanochat.serve.notation import as_parts

_BETWEEN = "\n\n"


def conversation(messages: Sequence[SystemMessage | UserMessage | AssistantMessage]) -> list[Message]:
    """One system message at most, then user and assistant in turns, the user last.

    Messages next to each other that are of one role become one, with a blank line between. Tool calls in what the
    assistant said are calls again.

    Raises:
        ApiError: 400 that names the message at which this is not possible.
    """
    system: list[str] = []
    turns: list[tuple[str, list[str]]] = []
    for number, message in enumerate(messages):
        if isinstance(message, SystemMessage):
            if turns:
                raise ApiError(
                    400,
                    f"messages[{number}] is of role {message.role}, after the conversation has begun; "
                    "expected it at the beginning",
                    param=f"messages[{number}].role",
                    code="invalid_value",
                )
            system.append(message.content)
        elif turns and turns[-1][0] == message.role:
            turns[-1][1].append(message.content)
        else:
            turns.append((message.role, [message.content]))
    last = len(messages) - 1
    if not turns or turns[-1][0] != "user":
        role = messages[last].role
        raise ApiError(
            400,
            f"messages[{last}] is of role {role}; expected the last message to be the user's",
            param=f"messages[{last}].role",
            code="invalid_value",
        )
    if turns[0][0] != "user":
        place = next(number for number, message in enumerate(messages) if message.role == "assistant")
        raise ApiError(
            400,
            f"messages[{place}] is of role assistant; expected the conversation to begin with the user",
            param=f"messages[{place}].role",
            code="invalid_value",
        )
    asked: list[Message] = [{"role": role, "content": _content(role, texts)} for role, texts in turns]
    instructions = _BETWEEN.join(text for text in system if text.strip())
    return [{"role": "system", "content": instructions}, *asked] if instructions else asked


def _content(role: str, texts: Sequence[str]) -> str | list:
    text = _BETWEEN.join(text for text in texts if text)
    if role == "user":
        return text
    # As a list of parts an answer may be empty: a model that ended at once is answered again.
    return as_parts(text) if text.strip() else [{"type": "text", "text": text}]
