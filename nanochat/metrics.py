"""One `Metrics` per stage: every logged step goes to metrics.jsonl, to the log, and to wandb where it is wanted."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanochat.config.evaluation import WandbSettings

log = logging.getLogger(__name__)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics file; a torn last line, left by a kill, is dropped."""
    rows = []
    if path.exists():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def _format(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Metrics:
    """Feeds metrics.jsonl, the log and wandb.

    On resume the lines after `resume_step` are dropped, so that the file holds one continuous history.
    """

    def __init__(
        self,
        path: Path,
        *,
        stage: str,
        run: str,
        total_steps: int,
        resume_step: int = 0,
        wandb: WandbSettings | None = None,
        wandb_id: str | None = None,
        wandb_folder: Path | None = None,
        settings: dict[str, Any] | None = None,
        log_every: int | None = None,
    ) -> None:
        """Open the file and, unless disabled, the wandb run.

        Args:
            path: metrics.jsonl in the in-progress folder.
            stage: the stage's word; prefix of the names in wandb.
            run: name of the run; wandb's group.
            total_steps: the stage's steps, for the log lines.
            resume_step: the step training continues from; later lines are dropped.
            wandb: with `mode` already resolved to online, offline or disabled.
            wandb_id: stable identity of the wandb run, so that a resumed stage continues its curve.
            wandb_folder: where its `wandb/` folder of local files goes; none is beside metrics.jsonl.
            settings: what wandb shows as the run's config.
            log_every: steps between log lines; none logs about fifty in all.
        """
        self.path = path
        self.stage = stage
        self.total_steps = total_steps
        self.log_every = log_every or max(1, total_steps // 50)
        rows = [row for row in read_metrics(path) if row["step"] <= resume_step] if resume_step else []
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.replace(temporary, path)
        self._file = path.open("a")
        self._wandb = self._open_wandb(run, wandb, wandb_id, wandb_folder or path.parent, settings or {}, resume_step)

    def _open_wandb(
        self,
        run: str,
        wandb: WandbSettings | None,
        wandb_id: str | None,
        folder: Path,
        settings: dict[str, Any],
        resume_step: int,
    ) -> Any:
        if wandb is None or wandb.mode == "disabled":
            return None
        try:
            import wandb as library
        except ImportError:
            log.info("wandb is not installed; metrics go to %s only", self.path)
            return None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return library.init(
                project=wandb.project,
                group=run,
                name=f"{run}-{self.stage}",
                id=wandb_id,
                job_type=self.stage,
                mode=wandb.mode,
                resume="allow" if wandb.mode == "online" else None,
                dir=str(folder),
                config=settings | {"resume_step": resume_step},
                settings=library.Settings(silent=True, console="off", x_disable_stats=True),
            )
        except Exception as error:
            log.warning("wandb could not start (%s); metrics go to %s only", error, self.path)
            return None

    def log(self, step: int, **values: float) -> None:
        """Record the values of one step; one flushed line each, so that a kill loses at most one."""
        row = {"step": step, **{key: float(value) for key, value in values.items()}}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if step % self.log_every == 0 or step in (1, self.total_steps):
            text = " ".join(f"{key} {_format(value)}" for key, value in row.items() if key != "step")
            log.info("%s step %d/%d %s", self.stage, step, self.total_steps, text)
        self._to_wandb(lambda: self._wandb.log({f"{self.stage}/{key}": row[key] for key in values}, step=step))

    def close(self) -> None:
        """Close the file and the wandb run."""
        self._file.close()
        self._to_wandb(lambda: self._wandb.finish())

    def _to_wandb(self, call: Callable[[], object]) -> None:
        """Talk to wandb if it is there; when that fails it is left alone, for it must never cost a training run."""
        if self._wandb is None:
            return
        try:
            call()
        except Exception as error:
            log.warning("wandb failed (%s); metrics go to %s only", error, self.path)
            self._wandb = None
