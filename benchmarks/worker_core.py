"""Worker of eval.py: this repository's CORE, measured in turns. Argument: JSON of shape, bundle and tokenizer."""

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from shape import Shape
from turns import Message, serve

from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.core import CoreTask, read_bundle, render_items
from nanochat.evaluate.core_batches import evaluate_tasks, plan_batches
from nanochat.evaluate.item_log import ItemLog
from nanochat.infer.acceleration import accelerate_inference
from nanochat.infer.scoring import one_by_one
from nanochat.model.gpt import GPT
from nanochat.runtime import World, inference_dtype

HERE = World(0, 0, 1, torch.device("cpu"))


def random_model(shape: Shape) -> GPT:
    """A model whose every part has an effect, and whose losses differ from option to option."""
    model = GPT(shape.config)
    model.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("head") or not parameter.any():
                parameter.normal_(0.0, 0.05, generator=generator)
    model.dtype = inference_dtype(shape.precision, HERE.device)
    return model.eval()


def compared(model: GPT, tokenizer: Tokenizer, tasks: list[CoreTask], items: int) -> Message:
    """Picks and mean losses of the batches beside those of one forward pass for each option alone."""
    with tempfile.TemporaryDirectory() as folder:
        records = evaluate_tasks(
            model, tokenizer, tasks, max_items=items, device_batch_size=32, world=HERE, items=ItemLog(Path(folder), 0)
        )
    disagreements, largest, count = [], 0.0, 0
    context = model.config.sequence_length
    for batch in plan_batches(tasks, items, tokenizer, context, 32 * context):
        for asked in batch:
            record = records[asked.task.label][asked.index]
            alone = one_by_one(model, render_items(asked.task, [asked.index], tokenizer)[0].spans)
            means = [loss.mean for loss in alone]
            pairs = zip(record["loss_sums"], record["loss_tokens"], means, strict=True)
            largest = max(largest, *(abs(total / tokens - mean) for total, tokens, mean in pairs))
            if asked.task.kind == "language_modeling":
                same = record["correct"] == alone[0].greedy
            else:
                same = record["picked"] == str(means.index(min(means)))
            count += 1
            if not same:
                disagreements.append(f"{asked.task.label} {asked.index}")
    return {"compared": count, "disagreements": disagreements, "largest_loss_difference": largest}


def prepare() -> Callable[[Message], Message]:
    """Build the model and read the bundle.

    The answers: to `{"tasks": […], "items": n}` what the first n items of these tasks took, rendering included; to
    `{"agreement": n}` how n items of every task compare with scoring one by one.
    """
    logging.basicConfig(level=logging.INFO, format="ours: %(message)s", stream=sys.stderr)
    given = json.loads(sys.argv[1])
    accelerate_inference(HERE.device)
    model = random_model(Shape(**given["shape"]))
    tokenizer = Tokenizer.load(Path(given["tokenizer"]))
    tasks = read_bundle(Path(given["bundle"]))

    def answer(message: Message) -> Message:
        if "agreement" in message:
            return compared(model, tokenizer, tasks, message["agreement"])
        chosen = [task for task in tasks if task.label in message["tasks"]]
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            records = evaluate_tasks(
                model,
                tokenizer,
                chosen,
                max_items=message["items"],
                device_batch_size=32,
                world=HERE,
                items=ItemLog(Path(folder), 0),
            )
            seconds = time.perf_counter() - start
        computing = {label: sum(record["seconds"] for record in found) for label, found in records.items()}
        # What goes before the forward passes, rendering and planning, is shared out like them.
        share = seconds / sum(computing.values())
        return {
            "seconds": {label: share * value for label, value in computing.items()},
            "items": {label: len(found) for label, found in records.items()},
            "precision": str(model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }

    return answer


if __name__ == "__main__":
    serve(prepare)
