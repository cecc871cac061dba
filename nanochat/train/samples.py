"""samples.md: what the model writes, so that a reader sees the stages differ."""

from collections.abc import Sequence

from nanochat.data.conversation import Conversation, render_prompt
from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from nanochat.model.gpt import GPT


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.splitlines() or [""])


def continuations(model: GPT, tokenizer: Tokenizer, prompts: Sequence[str], max_tokens: int = 64) -> str:
    """Markdown of greedy continuations of plain text."""
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0, stop=frozenset({tokenizer.bos}))
    ids = [[tokenizer.bos, *tokenizer.encode(prompt)] for prompt in prompts]
    completions = Engine(model, tokenizer, tools=False).generate(ids, params)
    parts = ["# Samples\n\nGreedy continuations; the prompt is in bold.\n"]
    for prompt, completion in zip(prompts, completions, strict=True):
        text = tokenizer.decode(completion.ids, skip_special=True)
        bold = " ".join(prompt.split())
        parts.append(_quote(f"**{bold}**{text}") + "\n")
    return "\n".join(parts)


def answers(
    model: GPT, tokenizer: Tokenizer, conversations: Sequence[tuple[str, Conversation]], max_tokens: int = 128
) -> str:
    """Markdown of greedy answers to held-out conversations, given with the names of their tasks."""
    stop = frozenset({tokenizer.bos, tokenizer.special["<|assistant_end|>"]})
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0, stop=stop)
    prompts = [render_prompt(tokenizer, conversation) for _, conversation in conversations]
    parts = ["# Samples\n\nGreedy answers to held-out questions.\n"]
    for (task, _), prompt, completion in zip(
        conversations, prompts, Engine(model, tokenizer).generate(prompts, params), strict=True
    ):
        question = tokenizer.decode(prompt, skip_special=True)
        reply = [token for token in completion.ids if token not in stop]
        answer = tokenizer.decode(reply) + ("" if completion.finish == "stop" else " …")
        parts.append(f"**{task}**\n\n{_quote(question)}\n\n{_quote(answer)}\n")
    return "\n".join(parts)
