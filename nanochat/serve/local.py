"""A model in this process: generate, chat, score. `from nanochat import load`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Unpack, cast, overload

from nanochat.artifact import Manifest
from nanochat.data.conversation import Message
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError, DataError
from nanochat.infer.scoring import judge_tokens
from nanochat.serve.errors import ContextFullError
from nanochat.serve.model import ChatModel
from nanochat.serve.notation import as_parts, text_of
from nanochat.serve.registry import Registry
from nanochat.serve.results import Answer, Completion, Score, Stream
from nanochat.serve.writing import Asked, Reply, Sampling, judged_token

_ROWS = 16
"""Full rows of a forward pass in which continuations are judged."""

Conversation = str | Sequence[Message]
"""A message of the user, or messages that end with one."""


def load(path: str | Path = "results/tiny", stage: str = "auto", device: str = "auto") -> "Model":
    """Load a trained model; its files are verified.

    Args:
        path: a run folder, or a checkpoint directory, which needs nothing beside it.
        stage: base, mid, sft or rl; `auto` takes the last one trained.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        ArtifactError: if there is no checkpoint, or it is damaged.
        UnknownModelError: if there is none of this stage.
        DeviceError: if the device does not exist.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ArtifactError(f"{path} is no folder; expected a run folder such as results/tiny, or a checkpoint in it")
    return Model(Registry(folder, device).get(stage))


class Model:
    """A trained model. For one thread at a time.

    What it writes for a request depends on the request and its seed only: alone, in a list and streamed it is the
    same, to the bit on CPUs, up to rounding on GPUs.
    """

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    def __repr__(self) -> str:
        return f"<Model {self.name}: {self.parameters:,} parameters, context of {self.context_size} tokens>"

    @property
    def name(self) -> str:
        """Run and stage, as `tiny/sft`."""
        return self._model.name

    @property
    def stage(self) -> str:
        """base, mid, sft or rl."""
        return self._model.stage

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weights.numel() for weights in self._model.loaded.model.parameters())

    @property
    def context_size(self) -> int:
        """Tokens it can see, prompt and answer together."""
        return self._model.context_size

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to token ids and back."""
        return self._model.tokenizer

    @property
    def manifest(self) -> Manifest:
        """What the checkpoint was made from, and how."""
        return self._model.manifest

    @overload
    def generate(self, prompts: str, *, n: None = None, **sampling: Unpack[Sampling]) -> Completion: ...
    @overload
    def generate(self, prompts: str, *, n: int, **sampling: Unpack[Sampling]) -> list[Completion]: ...
    @overload
    def generate(
        self, prompts: list[str] | tuple[str, ...], *, n: None = None, **sampling: Unpack[Sampling]
    ) -> list[Completion]: ...
    def generate(
        self, prompts: str | Sequence[str], *, n: int | None = None, **sampling: Unpack[Sampling]
    ) -> Completion | list[Completion]:
        """Continue a text, or many at the same time.

        Args:
            prompts: a text, or texts. Special tokens in it are plain text.
            n: for one text: so many samples, with the seeds seed, seed + 1, …
            **sampling: see `Sampling`.

        Returns:
            A completion for a text, a list for texts or where `n` is given.

        Raises:
            ContextFullError: if a prompt leaves no room.
            ValueError: for sampling parameters out of range.
        """
        texts = _several(prompts, n)
        asked = Asked.of(sampling, apart=n is not None)
        found = self._complete([self._model.text_prompt(text) for text in texts], asked)
        done = [reply.completion() for reply in found]
        return done[0] if isinstance(prompts, str) and n is None else done

    def generate_stream(self, prompt: str, **sampling: Unpack[Sampling]) -> Stream[Completion]:
        """Continue a text, handing out pieces as they come.

        Args:
            prompt: the text.
            **sampling: see `Sampling`.
        """
        asked = Asked.of(sampling)
        ids = self._model.text_prompt(prompt)

        def pieces() -> Iterator[str | Completion]:
            replies = [asked.reply(self._model, ids)]
            yield from self._pieces(replies)
            yield replies[0].completion()

        return Stream(pieces())

    @overload
    def chat(
        self, messages: str | list[Message], *, system: str | None = None, **sampling: Unpack[Sampling]
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: list[str] | list[list[Message]],
        *,
        system: str | None = None,
        **sampling: Unpack[Sampling],
    ) -> list[Answer]: ...
    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        *,
        system: str | None = None,
        **sampling: Unpack[Sampling],
    ) -> Answer | list[Answer]:
        """Answer a conversation, or many at the same time.

        A base model, which has seen no conversation, continues the last message.

        Args:
            messages: a message of the user; or a conversation that ends with one; or a list of either.
            system: put before the first message.
            **sampling: see `Sampling`.

        Returns:
            An answer, or one for each conversation of a list.

        Raises:
            ContextFullError: if a conversation leaves no room for an answer.
            DataError: if it is no conversation that ends with a message of the user.
            ValueError: for sampling parameters out of range.
        """
        one = isinstance(messages, str) or (bool(messages) and isinstance(messages[0], Mapping))
        given = [cast(Conversation, messages)] if one else list(cast(Sequence[Conversation], messages))
        conversations = [_conversation(conversation, system) for conversation in given]
        found = self._complete([self._model.prompt(c) for c in conversations], Asked.of(sampling))
        answers = [reply.answer(conversation) for reply, conversation in zip(found, conversations)]
        return answers[0] if one else answers

    def chat_stream(
        self, messages: Conversation, *, system: str | None = None, **sampling: Unpack[Sampling]
    ) -> Stream[Answer]:
        """Answer a conversation, handing out pieces as they come; `result` of the stream is the whole answer.

        Args:
            messages: a message of the user, or a conversation that ends with one.
            system: put before the first message.
            **sampling: see `Sampling`.
        """
        asked = Asked.of(sampling)
        conversation = _conversation(messages, system)
        ids = self._model.prompt(conversation)

        def pieces() -> Iterator[str | Answer]:
            replies = [asked.reply(self._model, ids)]
            yield from self._pieces(replies)
            yield replies[0].answer(conversation)

        return Stream(pieces())

    @overload
    def score(self, prompt: Conversation, continuations: str) -> Score: ...
    @overload
    def score(self, prompt: Conversation, continuations: list[str] | tuple[str, ...]) -> list[Score]: ...
    def score(self, prompt: Conversation, continuations: str | Sequence[str]) -> Score | list[Score]:
        """How likely the model finds given continuations.

        Args:
            prompt: a text that is continued, as in `generate`; or messages, as in `chat`, that are answered.
            continuations: one, or several that are judged at the same time. Text usually begins with a blank.

        Raises:
            ContextFullError: if prompt and continuation together are longer than the context.
            DataError: if a continuation is empty.
        """
        model = self._model
        ids = model.text_prompt(prompt) if isinstance(prompt, str) else model.prompt(_conversation(prompt, None))
        texts = [[*ids, *model.tokenizer.encode(text)] for text in _several(continuations, None)]
        for text in texts:
            if len(text) == len(ids):
                raise DataError("a continuation is empty; expected text")
            if len(text) > model.context_size + 1:
                raise ContextFullError(
                    f"prompt and continuation have {len(text)} tokens, {model.name} sees {model.context_size}; "
                    "shorten the prompt",
                    len(text),
                    model.context_size,
                )
        judged = judge_tokens(model.loaded.model, texts, 1, _ROWS)
        scores = []
        for text in judged:
            own = text[len(ids) - 1 :]
            tokens = tuple(judged_token(model.tokenizer, token.id, token.logprob) for token in own)
            scores.append(Score(tokens, all(token.top[0][0] == token.id for token in own)))
        return scores[0] if isinstance(continuations, str) else scores

    def _complete(self, prompts: Sequence[list[int]], asked: Asked) -> list[Reply]:
        replies = [asked.reply(self._model, ids, number) for number, ids in enumerate(prompts)]
        for _ in self._pieces(replies):
            pass
        return replies

    def _pieces(self, replies: Sequence[Reply]) -> Iterator[str]:
        """Write all replies; pieces of text of all of them, as they come."""
        if not replies:
            return
        longest = max(len(reply.prompt) + reply.params.max_tokens for reply in replies)
        generation = self._model.engine.start(min(self._model.slots, len(replies)), longest)
        generation.submit_all([reply.prompt for reply in replies], [reply.params for reply in replies])
        while generation.active:
            for token in generation.step():
                reply = replies[token.request]
                said = text_of(reply.push(token))
                if said:
                    yield said
                if reply.reading.stopped and token.finish is None:
                    generation.cancel(token.request)


def _several(texts: str | Sequence[str], n: int | None) -> list[str]:
    if n is not None and (n < 1 or not isinstance(texts, str)):
        raise ValueError(f"n = {n}: expected 1 or more, of one text")
    return [texts] * (n or 1) if isinstance(texts, str) else list(texts)


def _conversation(messages: Conversation, system: str | None) -> list[Message]:
    """Messages a model can be asked; tool calls in texts of the assistant are calls again."""
    if isinstance(messages, str):
        messages = [Message(role="user", content=messages)]
    found = [
        Message(role=m["role"], content=as_parts(m["content"]))
        if m["role"] == "assistant" and isinstance(m["content"], str)
        else m
        for m in messages
    ]
    if system is not None and system.strip():
        if found and found[0]["role"] == "system":
            raise DataError("the conversation begins with a system message already; leave out system=")
        found.insert(0, Message(role="system", content=system))
    if not found or found[-1]["role"] != "user":
        raise DataError("expected a conversation that ends with a message of the user")
    return found
