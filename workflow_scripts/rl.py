"""Reinforce.

python -m workflow_scripts.rl --out results/r/rl --init results/r/sft --data data/hub --settings …
"""

from workflow_scripts.command import run
from workflow_scripts.finetuning import finetune

if __name__ == "__main__":
    run(lambda: finetune("rl", __doc__))
