"""lm-evaluation-harness as a client, in a process of its own: python lm_eval_worker.py MODELS OUT."""

import json
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager


def main() -> None:
    models, out = json.loads(sys.argv[1]), Path(sys.argv[2])
    found = {}
    for name, (arguments, tasks) in models.items():
        results = lm_eval.simple_evaluate(
            model="local-completions",
            model_args=arguments,
            tasks=tasks,
            task_manager=TaskManager(include_path=str(out.parent), include_defaults=False),
            log_samples=True,
            bootstrap_iters=0,
        )
        found[name] = {
            task: [
                {"asked": [request[:2] for request in sample["arguments"]], "answers": sample["filtered_resps"]}
                for sample in sorted(rows, key=lambda row: row["doc_id"])
            ]
            for task, rows in results["samples"].items()
        }
        found[name]["scores"] = results["results"]
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
