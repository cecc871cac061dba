"""Worker of generate.py: generation of a checkout of karpathy/nanochat, measured in turns.

Argument: JSON of the checkout's folder and the shape. Its engine is used as it comes, in float32, the faster type on
CPUs (NANOCHAT_DTYPE). Nothing of this repository is imported, as both packages have the same name.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

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
    checkout, shape = Path(given["nanochat"]).resolve(), given["shape"]
    sys.path.insert(0, str(checkout))
    import torch
    from nanochat.engine import Engine

    from nanochat import gpt

    if not Path(gpt.__file__).is_relative_to(checkout):
        raise ImportError(f"nanochat.gpt was taken from {gpt.__file__}, expected it below {checkout}")
    config = gpt.GPTConfig(
        sequence_len=shape["sequence_length"],
        vocab_size=shape["vocab_size"],
        n_layer=shape["depth"],
        n_head=shape["heads"],
        n_kv_head=shape["heads"],
        n_embd=shape["heads"] * shape["head_dim"],
        window_pattern=shape["window_pattern"],
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        model = gpt.GPT(config)
    model.to_empty(device="cpu")
    model.init_weights()
    model.eval()
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
