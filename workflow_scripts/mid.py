"""Midtrain.

python -m workflow_scripts.mid --out results/r/mid --init CHECKPOINT --data data/hub --settings …
"""

from workflow_scripts.command import run
from workflow_scripts.finetuning import finetune

if __name__ == "__main__":
    run(lambda: finetune("mid", __doc__))
