"""What a chat window and an API share: the models, who generates, the settings."""

from dataclasses import dataclass
from pathlib import Path

from nanochat.config import ChatSettings
from nanochat.serve.observer import Observer
from nanochat.serve.registry import Registry
from nanochat.serve.scheduler import Scheduler


@dataclass(frozen=True)
class Serving:
    """Everything that answers.

    Attributes:
        registry: the models.
        scheduler: generates for all readers.
        settings: of the chat.
    """

    registry: Registry
    scheduler: Scheduler
    settings: ChatSettings

    @classmethod
    def open(
        cls, run: Path, settings: ChatSettings, observer: Observer | None = None, device: str = "auto"
    ) -> "Serving":
        """Look for checkpoints and start the scheduler.

        Args:
            run: a run folder, or a single checkpoint directory.
            settings: of the chat.
            observer: is told what happens.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            ArtifactError: if there is no checkpoint.
            DeviceError: if the device does not exist.
        """
        return cls(Registry(run, device, settings=settings), Scheduler(settings, observer), settings)

    def close(self) -> None:
        """End all replies and let go of the models."""
        self.scheduler.close()
        self.registry.close()
