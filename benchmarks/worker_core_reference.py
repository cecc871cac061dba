"""Worker of eval.py: CORE of a checkout of karpathy/nanochat, measured in turns.

Argument: JSON of the checkout's folder, the shape, the bundle and the tokenizer's folder. Its own functions render and
score; the tokenizer is the same as ours, called as theirs is. Nothing of this repository is imported, as both packages
have the same name.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import reference
from turns import Message, serve


def prepare() -> Callable[[Message], Message]:
    """Build its model and read the bundle; the answer to `{"tasks": […], "items": n}` is what n items of each took."""
    given = json.loads(sys.argv[1])
    bundle = Path(given["bundle"])
    reference.use(given["nanochat"])
    import tokenizers
    import torch
    import yaml

    from nanochat import core_eval

    model = reference.build(given["shape"]).eval()
    core = tokenizers.Tokenizer.from_file(str(Path(given["tokenizer"]) / "tokenizer.json"))

    class Tokens:
        """What its evaluation asks of a tokenizer."""

        def get_bos_token_id(self) -> int:
            return int(core.token_to_id("<|bos|>"))

        def __call__(self, texts: Sequence[str], prepend: int) -> list[list[int]]:
            return [[prepend, *e.ids] for e in core.encode_batch(list(texts), add_special_tokens=False)]

    def evaluate(entry: Message, items: int) -> tuple[float, int]:
        lines = (bundle / "eval_data" / entry["dataset_uri"]).read_text(encoding="utf-8").splitlines()
        data = [json.loads(line) for line in lines if line.strip()]
        random.Random(1337).shuffle(data)
        meta = {
            "task_type": entry["icl_task_type"],
            "num_fewshot": entry["num_fewshot"][0],
            "continuation_delimiter": entry.get("continuation_delimiter", " "),
        }
        # It draws examples from the items it is given, of which there must be more than it draws.
        data = data[: max(items, meta["num_fewshot"] + 1)]
        start = time.perf_counter()
        core_eval.evaluate_task(model, Tokens(), data, "cpu", meta)
        return time.perf_counter() - start, len(data)

    entries = {entry["label"]: entry for entry in yaml.safe_load((bundle / "core.yaml").read_text())["icl_tasks"]}

    def answer(message: Message) -> Message:
        taken = {label: evaluate(entries[label], message["items"]) for label in message["tasks"]}
        return {
            "seconds": {label: seconds for label, (seconds, _) in taken.items()},
            "items": {label: count for label, (_, count) in taken.items()},
            "precision": str(model.cos.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }

    return answer


if __name__ == "__main__":
    serve(prepare)
