"""RL with verifiable rewards: the same loop, with batches that the model samples itself (GRPO-style, on-policy).

On-policy, the clipped objectives of GRPO and its kin reduce to REINFORCE with the group's mean as baseline, the token
losses weighted by the answer's advantage and divided by the number of sampled tokens of the whole step.
"""

from pathlib import Path

from nanochat.artifact import Manifest, Workspace, read_manifest
from nanochat.config.stages import RlStage
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError
from nanochat.evaluate.tasks import load_task
from nanochat.model.checkpoint import load_model
from nanochat.model.scaling import Plan, rl_plan
from nanochat.runtime import World, set_deterministic
from nanochat.train.execution import Execution
from nanochat.train.mixture import TaskFolders, split_items
from nanochat.train.rollout import RolloutSource
from nanochat.train.samples import answers
from nanochat.train.stage import Training, promote_if_finished, run_training
from nanochat.train.trainer import Every

_SHOWN = 4


def run(settings: RlStage, *, out: Path, init: Path, data: Path, execution: Execution, world: World) -> Manifest:
    """Train a chat checkpoint on the rewards of its own answers, into `out`.

    Args:
        settings: everything that changes the result.
        out: the checkpoint directory to be.
        init: checkpoint directory to start from.
        data: data folder with the files of the task.
        execution: how it runs here.
        world: the processes of the launch.

    Raises:
        ArtifactError: if `init` is missing, damaged or of a wrong stage, or a task file is missing.
        DataError: if the task has no items to train on.
        TrainingError, Interrupted: as `nanochat.train.trainer.train`.
    """
    own = settings.rl
    before = read_manifest(init, ("sft", "mid"))
    inputs = {"init": init, **TaskFolders(data).files((own.task,))}
    with Workspace(out, "rl", settings, inputs, rank=world.rank) as workspace:
        finished = promote_if_finished(workspace, world)
        if finished is not None:
            return finished
        set_deterministic(settings.seed)
        tokenizer = Tokenizer.load(init)
        model = load_model(init, world.device)
        task = load_task(own.task, "train", data)
        items, held_out = split_items(task, own.val_fraction)
        if not items:
            raise DataError(f"rl.task {own.task} has {len(task)} items, none of them to train on")
        validation = held_out[: own.eval_items]
        base_plan = Plan.from_dict(before.metrics["base_plan"])
        plan = rl_plan(base_plan, own, len(items), model.config)
        source = RolloutSource(model, tokenizer, task, items, own, settings.seed, world)
        shown = [(own.task, task.conversation(item)) for item in validation[:_SHOWN]]
        training = Training(
            model=model,
            tokenizer=tokenizer,
            plan=plan,
            base_plan=base_plan,
            source=source,
            hooks=[Every(own.eval_every, lambda: source.pass_at_1(validation), at_start=True)],
            samples=lambda: answers(model, tokenizer, shown, own.max_new_tokens),
            final_metrics=lambda: {"problems": len(items), "validation_problems": len(validation)},
        )
        return run_training(training, workspace, settings.model_dump(mode="json"), execution, world)
