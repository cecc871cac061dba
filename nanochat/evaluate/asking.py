"""Items of chat tasks put to a model: by likeliest letter, or by generated replies that the task judges."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np

from nanochat.config import ChatEvalSettings
from nanochat.data.conversation import render_prompt
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError
from nanochat.evaluate.scores import Record
from nanochat.evaluate.tasks import Task
from nanochat.infer.checkpoint import LoadedModel
from nanochat.infer.engine import Completion, Engine
from nanochat.infer.sampling import SamplingParams
from nanochat.infer.scoring import next_logits

CHUNK_BATCHES = 8
"""Full batches of choice items between two looks at the clock."""

Answered = tuple["Question", Record, int]
"""An item, what happened with it, and the tokens it took."""


@dataclass(frozen=True)
class Question:
    """One item that is put to a model: the task, the item's number, and the prompt's tokens."""

    task: Task
    index: int
    prompt: Sequence[int]

    @classmethod
    def of(cls, task: Task, index: int, tokenizer: Tokenizer) -> "Question":
        """An item as the tokenizer writes it."""
        return cls(task, index, render_prompt(tokenizer, task.conversation(index)))


def fit_prompt(prompt: Sequence[int], room: int) -> list[int]:
    """A prompt of at most `room` tokens: its first token (`<|bos|>`) and its end, where the question's end stands."""
    return list(prompt) if len(prompt) <= room else [prompt[0], *prompt[len(prompt) - room + 1 :]]


def _record(question: Question, tokenizer: Tokenizer, reply: str, right: int, samples: int, truncated: bool) -> Record:
    task, index = question.task, question.index
    return {
        "item": index,
        "group": task.group(index),
        "prompt": tokenizer.decode(question.prompt, skip_special=True),
        "reply": reply,
        "gold": task.gold(index),
        "correct": bool(right),
        "right": right,
        "samples": samples,
        "truncated": truncated,
    }


def letter_tokens(tokenizer: Tokenizer, letters: Sequence[str]) -> list[int]:
    """The token of each answer letter.

    Raises:
        ArtifactError: if the tokenizer writes one as several tokens.
    """
    ids = [tokenizer.encode(letter) for letter in letters]
    for letter, tokens in zip(letters, ids):
        if len(tokens) != 1:
            raise ArtifactError(
                f"the tokenizer writes the answer letter {letter} as {len(tokens)} tokens, expected 1; train it anew"
            )
    return [tokens[0] for tokens in ids]


def by_letter(loaded: LoadedModel, questions: Sequence[Question], device_batch_size: int) -> Iterator[Answered]:
    """Answer choice items of any tasks together: the likeliest of the item's letters after `<|assistant_start|>`.

    Args:
        loaded: the model.
        questions: longer ones than the context lose their beginning.
        device_batch_size: full rows in one forward pass.

    Yields:
        Each item once, longest prompts first.

    Raises:
        ArtifactError: if the tokenizer writes a letter as several tokens, or the logits are not finite.
    """
    if not questions:
        return
    context = loaded.model.config.sequence_length
    letters = {id(question): question.task.letters(question.index) for question in questions}
    # The letters of an item are the first ones of the alphabet.
    tokens = letter_tokens(loaded.tokenizer, max(letters.values(), key=len))
    waiting = sorted(questions, key=lambda question: -len(question.prompt))
    for chunk in _chunks(waiting, context, CHUNK_BATCHES * device_batch_size * context):
        prompts = [fit_prompt(question.prompt, context) for question in chunk]
        logits = next_logits(loaded.model, prompts, device_batch_size, tokens)
        if not bool(logits.isfinite().all()):
            raise ArtifactError(
                "the model's logits are not finite, so the first letter would seem to be its answer: its weights are "
                "broken or its training diverged; see metrics.jsonl of the checkpoint, and train it again"
            )
        for question, prompt, row in zip(chunk, prompts, logits):
            own = letters[id(question)]
            reply = own[int(row[: len(own)].argmax())]
            right = int(reply == question.task.gold(question.index))
            cut = len(question.prompt) > context
            yield question, _record(question, loaded.tokenizer, reply, right, 1, cut), len(prompt)


def _chunks(questions: Sequence[Question], context: int, tokens: int) -> Iterator[list[Question]]:
    """Consecutive questions of about so many tokens."""
    chunk: list[Question] = []
    size = 0
    for question in questions:
        chunk.append(question)
        size += min(len(question.prompt), context)
        if size >= tokens:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@dataclass
class _Replies:
    """What has come back for one item."""

    question: Question
    completions: list[Completion | None]
    rewards: list[Future[float] | None]
    judged: int = 0


def by_reply(
    loaded: LoadedModel, questions: Sequence[Question], settings: ChatEvalSettings, slots: int
) -> Iterator[Answered]:
    """Answer generate items of any tasks together, and have the task judge the replies.

    All replies to all items are requests of one call of the engine, so that a free row is taken by whatever task has
    something left. Replies are judged by threads meanwhile: programs run in the sandbox while others are written.
    The replies to an item are drawn with seeds of their own, from (seed, item, number of the reply).

    Args:
        loaded: the model.
        questions: one that leaves no room to reply loses its beginning.
        settings: replies, length and sampling of each task.
        slots: rows generated at a time.

    Yields:
        Each item once, as its last reply was judged.
    """
    if not questions:
        return
    tokenizer, context = loaded.tokenizer, loaded.model.config.sequence_length
    items, owners, prompts, params = [], [], [], []
    for place, question in enumerate(questions):
        how = settings.tasks[question.task.name]
        items.append(_Replies(question, [None] * how.samples, [None] * how.samples))
        prompt = fit_prompt(question.prompt, _room(how.max_new_tokens, context))
        for sample in range(how.samples):
            owners.append((place, sample))
            prompts.append(prompt)
            params.append(
                SamplingParams(
                    max_tokens=how.max_new_tokens,
                    temperature=settings.temperature_of(question.task.name),
                    top_k=how.top_k,
                    top_p=how.top_p,
                    seed=_seed(settings.seed, question.index, sample),
                )
            )
    engine = Engine(loaded.model, tokenizer, slots=slots)
    judged: SimpleQueue[int] = SimpleQueue()
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        for request, completion in engine.completions(prompts, params):
            place, sample = owners[request]
            item = items[place]
            item.completions[sample] = completion
            text = tokenizer.decode(completion.ids, skip_special=True)
            reward = pool.submit(item.question.task.reward, item.question.index, text)
            item.rewards[sample] = reward
            reward.add_done_callback(lambda _, place=place: judged.put(place))
            while not judged.empty():
                yield from _finished(items[judged.get()], loaded, settings)
        for _ in range(sum(len(item.rewards) - item.judged for item in items)):
            yield from _finished(items[judged.get()], loaded, settings)
    finally:  # after an error, what is not yet begun is left
        pool.shutdown(cancel_futures=True)


def _room(max_new_tokens: int, context: int) -> int:
    """Tokens of a prompt at most, so that half of the context, or what a reply may take, is left to it."""
    return context - min(max_new_tokens, context // 2)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def _finished(item: _Replies, loaded: LoadedModel, settings: ChatEvalSettings) -> Iterator[Answered]:
    """The item, if this was the last of its replies to be judged."""
    item.judged += 1
    if item.judged < len(item.rewards):
        return
    question, tokenizer, context = item.question, loaded.tokenizer, loaded.model.config.sequence_length
    verdicts = [reward is not None and reward.result() == 1.0 for reward in item.rewards]
    done = [completion for completion in item.completions if completion is not None]
    texts = [tokenizer.decode(completion.ids) for completion in done]
    room = _room(settings.tasks[question.task.name].max_new_tokens, context)
    record = _record(question, tokenizer, texts[0], sum(verdicts), len(verdicts), len(question.prompt) > room)
    record |= {
        "correct": verdicts[0],
        "finish": done[0].finish,
        "tokens": len(done[0].ids),
        "cut_off": sum(completion.finish == "length" for completion in done),
    }
    if len(verdicts) > 1:
        record |= {"replies": texts, "verdicts": verdicts}
    if layers := question.task.isolation():
        record["isolation"] = list(layers)
    generated = sum(len(completion.ids) for completion in done)
    item.completions.clear()  # of many items with many replies each they would fill the memory
    yield question, record, min(len(question.prompt), room) + generated
