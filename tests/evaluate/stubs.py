"""Models that know the answers, nothing, or better: what the evaluation must make of them is known exactly."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.core import CoreTask, render_items
from nanochat.infer.trees import crop
from nanochat.model.gpt import GPT, GPTConfig
from nanochat.model.layout import TreeLayout


class Prophet(GPT):
    """Says what comes next with a probability of nearly one: the word of the right answer, or of a wrong one.

    The adversary gives the wrong options a probability of one, and the right one none.
    """

    def __init__(self, tasks: Sequence[CoreTask], items: int, tokenizer: Tokenizer, context: int, right: bool) -> None:
        vocab = tokenizer.vocab_size
        super().__init__(
            GPTConfig(depth=1, width=16, heads=1, kv_heads=1, head_dim=16, vocab_size=vocab, sequence_length=context)
        )
        self.head = nn.Linear(vocab, vocab, bias=False)
        self.head.weight.data = 1000 * torch.eye(vocab)
        self._next: dict[tuple[int, ...], int] = {}
        for task in tasks:
            indices = range(min(items, len(task.items)))
            for index, rendered in zip(indices, render_items(task, indices, tokenizer), strict=True):
                gold = task.items[index].get("gold", 0)
                spans = [crop(span, context) for span in rendered.spans]
                for number, span in enumerate(spans):
                    if (number == gold) == right:
                        self._learn(span.tokens, span.start)
                if not right:
                    tokens, start = spans[gold].tokens, spans[gold].start
                    for place in range(start, len(tokens)):
                        self._next.setdefault(tokens[:place], (tokens[place] + 1) % vocab)

    def _learn(self, tokens: tuple[int, ...], start: int) -> None:
        for place in range(start, len(tokens)):
            self._next.setdefault(tokens[:place], tokens[place])

    def hidden(self, tokens: Tensor, segments: Tensor | TreeLayout | None = None, cache: object = None) -> Tensor:
        """One-hot of the next token at the positions that are asked for."""
        assert isinstance(segments, TreeLayout) and segments.wanted is not None
        out = torch.zeros(len(segments.wanted), self.config.vocab_size)
        for number, place in enumerate(segments.wanted.tolist()):
            row, column = divmod(place, tokens.shape[1])
            prefix = []
            while column >= 0:
                prefix.append(int(tokens[row, column]))
                column = int(segments.previous[row, column])
            out[number, self._next.get(tuple(reversed(prefix)), 0)] = 1
        return out
