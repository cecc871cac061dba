"""Generation for many requests at once: the ways in which it can be asked for."""

from collections.abc import Callable, Iterator, Sequence

from nanochat.data.tokenizer import Tokenizer
from nanochat.infer.decoder import Decoder
from nanochat.infer.generation import Generation
from nanochat.infer.requests import Completion, Finish, Token
from nanochat.infer.sampling import SamplingParams
from nanochat.model.gpt import GPT

__all__ = ["Completion", "Engine", "Finish", "Generation", "Token"]


class Engine:
    """Generates with the weights that a model has when the engine is made; of no use after a training step.

    Holds no state between calls, so that any number of calls may follow each other.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        slots: rows that are generated at the same time; further requests wait until one is free.
        tools: whether `<|python_start|>…<|python_end|>` runs the calculator and forces its output into the row.
        cuda_graphs: on a GPU, record decoding steps and replay them.
    """

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, *, slots: int = 32, tools: bool = True, cuda_graphs: bool = False
    ) -> None:
        if slots < 1:
            raise ValueError(f"Engine: slots = {slots}, expected at least 1")
        self.decoder = Decoder(model)
        self.tokenizer = tokenizer
        self.slots = slots
        self.tools = tools
        self.cuda_graphs = cuda_graphs and self.decoder.device.type == "cuda"
        self.stop = frozenset((tokenizer.special["<|assistant_end|>"], tokenizer.bos))

    def start(self, rows: int | None = None, max_length: int | None = None, *, alone: bool = False) -> Generation:
        """A generation that takes requests as they come.

        Args:
            rows: generated at the same time; None: `slots`.
            max_length: of prompt and completion together; None: the context.
            alone: on a CPU compute a single row in a faster way, whose logits equal the usual ones up to rounding.
        """
        return Generation(
            self.decoder,
            self.tokenizer,
            rows=rows or self.slots,
            max_length=max_length or self.decoder.config.sequence_length,
            stop=self.stop,
            tools=self.tools,
            cuda_graphs=self.cuda_graphs,
            alone=alone,
        )

    def _started(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        alone: bool = False,
    ) -> Generation:
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise ValueError(f"generate: {len(prompts)} prompts but {len(each)} sampling parameters")
        context = self.decoder.config.sequence_length
        longest = max((len(p) + one.max_tokens for p, one in zip(prompts, each) if len(p) < context), default=1)
        generation = self.start(max(1, min(self.slots, len(prompts))), min(longest, context), alone=alone)
        generation.submit_all(prompts, each)
        return generation

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        before_token: Callable[[], None] | None = None,
    ) -> list[Completion]:
        """Complete every prompt; the order of the results is that of the prompts.

        A completion depends on its own prompt and parameters only, not on what else is generated beside it: bit for
        bit on CPUs with oneDNN in float32, elsewhere up to rounding in the products. Prompts that begin alike are
        read once: pass a prompt several times, with different seeds, to get samples.

        Args:
            prompts: token ids, at least one each.
            params: for all, or one for each.
            before_token: called before each token; what it raises ends the generation.

        Raises:
            ValueError: if a prompt is empty or the numbers of prompts and params differ.
        """
        found = dict(self.completions(prompts, params, before_token))
        return [found[index] for index in range(len(prompts))]

    def completions(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        before_token: Callable[[], None] | None = None,
    ) -> Iterator[tuple[int, Completion]]:
        """`generate`, but each completion is handed out with its prompt's index as soon as it is finished."""
        generation = self._started(prompts, params)
        yield from generation.take_finished()
        while generation.active:
            if before_token is not None:
                before_token()
            generation.advance()
            yield from generation.take_finished()

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[tuple[int, bool]]:
        """Generate one completion token by token: (token, sampled), the stop token included.

        For one reader at a time: on a CPU faster than `generate`, whose logits it equals up to rounding.
        """
        generation = self._started([prompt], params, alone=True)
        while generation.active:
            for token in generation.step():
                yield token.id, token.sampled

    def stream_all(
        self, prompts: Sequence[Sequence[int]], params: SamplingParams | Sequence[SamplingParams]
    ) -> Iterator[Token]:
        """Generate all completions, tokens in the order in which they come."""
        generation = self._started(prompts, params)
        while generation.active:
            yield from generation.step()
