"""Open the checkpoint that an evaluation is of: of the stage that was asked for, and the one its scores will name."""

from pathlib import Path

from nanochat.artifact import Workspace
from nanochat.errors import ArtifactError
from nanochat.infer.checkpoint import LoadedModel, load_checkpoint
from nanochat.runtime import World


def open_checkpoint(model: Path, stage: str, workspace: Workspace, world: World) -> LoadedModel:
    """Load the checkpoint.

    Args:
        model: its directory, the workspace's input `model`, which has verified its files.
        stage: that it must be of.
        workspace: of the evaluation.
        world: the ranks; each loads it to its device.

    Raises:
        ArtifactError: if it is of another stage, or was replaced while the evaluation waited for another process.
    """
    loaded = load_checkpoint(model, world.device, verify_files=False)
    if loaded.manifest.stage != stage:
        raise ArtifactError(
            f"{model} is a checkpoint of stage {loaded.manifest.stage}, expected {stage}; name one of that stage"
        )
    if loaded.manifest.digest != workspace.inputs["model"]:
        raise ArtifactError(
            f"{model} was replaced by another checkpoint since its evaluation began; run the same command again"
        )
    return loaded
