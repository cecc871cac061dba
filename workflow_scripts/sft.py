"""Fine-tune.

python -m workflow_scripts.sft --out results/r/sft --init CHECKPOINT --data data/hub --settings …
"""

from workflow_scripts.command import run
from workflow_scripts.finetuning import finetune

if __name__ == "__main__":
    run(lambda: finetune("sft", __doc__))
