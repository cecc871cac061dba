"""Worker of train_cpu.py: a checkout of karpathy/nanochat, measured in turns.

Argument: JSON of the checkout's folder, the shape, a file of rows, and whether to compile. The compute type is chosen
before, by the variable NANOCHAT_DTYPE that the checkout reads. Its data loader and logging are not run: the rows lie
ready, which is in its favour. Nothing of this repository is imported, as both packages have the same name.
"""

import json
import sys
import time
from collections.abc import Callable

import reference
from turns import Message, serve


def prepare() -> Callable[[Message], Message]:
    """Build its model and optimizer; the answer to `{"steps": n}` is what n of its training steps took."""
    given = json.loads(sys.argv[1])
    shape = given["shape"]
    reference.use(given["nanochat"])
    import numpy as np
    import torch

    model = reference.build(shape)
    # As its base training script goes: compiled for fixed shapes.
    optimizer = model.setup_optimizer()
    step_model = torch.compile(model, dynamic=False) if given["compile"] else model
    rows = np.load(given["rows"])
    inputs, targets = (torch.from_numpy(rows[name].astype(np.int64)) for name in ("inputs", "targets"))
    size = shape["device_batch_size"]
    done = 0

    def step() -> tuple[float, float, int]:
        nonlocal done
        x, y = inputs[done % len(inputs)], targets[done % len(inputs)]
        done += 1
        parts = list(zip(x.split(size), y.split(size), strict=True))
        start = time.perf_counter()
        for part_x, part_y in parts:
            loss = step_model(part_x, part_y)
            last = loss.detach()
            (loss / len(parts)).backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)
        value = last.item()
        return time.perf_counter() - start, value, int((y != -1).sum())

    def answer(message: Message) -> Message:
        taken = [step() for _ in range(message["steps"])]
        return {
            "seconds": [seconds for seconds, _, _ in taken],
            "tokens": [tokens for _, _, tokens in taken],
            "loss": taken[-1][1],
            "flops_per_token": float(model.estimate_flops()),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "precision": str(model.cos.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }

    return answer


if __name__ == "__main__":
    serve(prepare)
