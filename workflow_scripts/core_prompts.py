"""Write CORE's prompts and task files for lm-evaluation-harness.

python -m workflow_scripts.core_prompts --bundle data/hub/eval_bundle --out D --tasks arc_easy winograd --max-items 50
"""

from pathlib import Path

from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and write."""
    from nanochat.export.core_prompts import run as core_prompts

    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--model", type=Path, help="checkpoint: also note each prompt's length in its tokens")
    arguments.add_argument("--tasks", nargs="*", default=[], help="labels of the bundle; none takes all")
    arguments.add_argument("--max-items", type=int, help="items per task at most")
    given = arguments.parse_args()
    names = core_prompts(
        bundle=given.bundle, out=given.out, tasks=given.tasks, max_items=given.max_items, model=given.model
    )
    print(",".join(names))


if __name__ == "__main__":
    run(main)
