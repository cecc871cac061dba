"""lm-evaluation-harness in a process of its own: python lm_eval_worker.py MODEL TASKS OUT NAME…"""

import json
import sys
from pathlib import Path

import lm_eval
import torch
from lm_eval.tasks import TaskManager


def main() -> None:
    model, tasks, out, *names = sys.argv[1:]
    torch.set_num_threads(1)
    remote = "auto_map" in json.loads((Path(model) / "config.json").read_text())
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": model, "dtype": "float32", "trust_remote_code": remote},
        tasks=names,
        task_manager=TaskManager(include_path=tasks, include_defaults=False),
        device="cpu",
        batch_size=4,
        log_samples=True,
        bootstrap_iters=0,
    )
    samples = {
        name: [
            {
                "item": sample["doc"]["item"],
                "texts": [request[:2] for request in sample["arguments"]],
                "answers": [answer for (answer,) in sample["resps"]],
                "acc": sample["acc"],
            }
            for sample in rows
        ]
        for name, rows in results["samples"].items()
    }
    accuracies = {name: result["acc,none"] for name, result in results["results"].items()}
    Path(out).write_text(json.dumps({"samples": samples, "acc": accuracies}))


if __name__ == "__main__":
    main()
