"""Worker of generate.py: generation of a checkout of karpathy/nanochat, measured in turns.

Argument: JSON of the checkout's folder and the shape. Its engine is used as it comes, in float32, the faster type on
CPUs (NANOCHAT_DTYPE). Nothing of this repository is imported, as both packages have the same name.
"""

import json
import sys
import time
from collections.abc import Callable

import reference
from turns import Message, serve


class _Tokenizer:
    """What its engine asks of a tokenizer; ids beyond the vocabulary, so that no row ends or calls a tool."""

    def encode_special(self, name: str) -> int:
        return 1_000_000 + len(name)

    def get_bos_token_id(self) -> int:
        return 2_000_000


def prepare() -> Callable[[Message], Message]:
    """Build its model and engine; `{"prompts": [[…]], "samples": b, "tokens": n}` is answered by seconds of each."""
    given = json.loads(sys.argv[1])
    reference.use(given["nanochat"])
    from nanochat.engine import Engine

    model = reference.build(given["shape"]).eval()
    engine = Engine(model, _Tokenizer())

    def answer(message: Message) -> Message:
        seconds, counts = [], message["tokens"]
        for prompt, count in zip(message["prompts"], counts, strict=True):
            start = time.perf_counter()
            produced = sum(
                len(column)
                for column, _ in engine.generate(
                    prompt, num_samples=message["samples"], max_tokens=count, temperature=message["temperature"]
                )
            )
            seconds.append(time.perf_counter() - start)
            if produced != count * message["samples"]:
                raise RuntimeError(f"{produced} tokens were made, {count * message['samples']} asked for")
        return {"seconds": seconds, "precision": str(model.cos.dtype).removeprefix("torch.")}

    return answer


if __name__ == "__main__":
    serve(prepare)
