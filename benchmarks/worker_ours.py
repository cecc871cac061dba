"""Worker of train_cpu.py: this repository's training, measured in turns. Argument: JSON of shape and compilation."""

import json
import logging
import sys
from collections.abc import Callable

import numpy as np
import torch
from shape import Shape
from turns import Message, serve
from workload import BOS, SEED, Trainee, documents

from nanochat.data.loader import TokenRows
from nanochat.model.scaling import count_parameters, flops_per_token
from nanochat.runtime import World, measured_matmul_flops
from nanochat.train.prefetch import Prefetched
from nanochat.train.sources import RowSteps


def prepare() -> Callable[[Message], Message]:
    """Build model, optimizer and rows.

    The answers: to `{"steps": n}` what n steps took, to `{"rows": path, "steps": n}` the first n steps' rows as a file.
    """
    logging.basicConfig(level=logging.INFO, format="ours: %(message)s", stream=sys.stderr)
    given = json.loads(sys.argv[1])
    shape = Shape(**given["shape"])
    device = torch.device("cpu")
    trainee = Trainee(shape, device, given["compile"])
    config, plan = trainee.model.config, trainee.plan
    tokens = documents(shape.vocab_size, max(2 * 1024 * shape.sequence_length, 8 * shape.total_batch_size))
    rows = TokenRows([tokens], shape.sequence_length, SEED, BOS)
    steps = RowSteps(rows, shape.rows_per_step, World(0, 0, 1, device))
    source = Prefetched(steps, plan.steps)

    def answer(message: Message) -> Message:
        if "rows" in message:
            batches = [steps.read(step).rows for step in range(message["steps"])]
            inputs, targets = (np.stack([getattr(b, name) for b in batches]) for name in ("inputs", "targets"))
            np.savez(message["rows"], inputs=inputs, targets=targets)
            documents_per_row = float(np.mean([batch.segments.max(axis=1) + 1 for batch in batches]))
            return {"documents_per_row": documents_per_row}
        rate = measured_matmul_flops(device, trainee.model.dtype)
        taken = [trainee.timed_step(lambda: source.read(trainee.steps).rows) for _ in range(message["steps"])]
        return {
            "seconds": [seconds for seconds, _, _ in taken],
            "tokens": [batch.tokens for _, _, batch in taken],
            "loss": taken[-1][1],
            "matmul_flops": max(rate, measured_matmul_flops(device, trainee.model.dtype)),
            "flops_per_token": flops_per_token(config),
            "parameters": count_parameters(config)["total"],
            "device_batch_size": trainee.device_batch_size,
            "compiled": trainee.model._training_trunk != trainee.model._trunk,
            "threads": torch.get_num_threads(),
        }

    return answer


if __name__ == "__main__":
    serve(prepare)
