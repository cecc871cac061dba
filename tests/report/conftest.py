"""A run folder written through the same Workspace and Metrics as the stages use, with made-up numbers."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nanochat.artifact import Manifest, Workspace
from nanochat.config import STAGES
from nanochat.evaluate.core_tasks import core_extent
from nanochat.evaluate.scores import Score, extent, mean_summary, score_records, write_scores
from nanochat.metrics import Metrics

HARDWARE = {
    "cpu": "Some CPU 9000",
    "cores": 2,
    "memory_bytes": 8_000_000_000,
    "device": "cpu",
    "devices": 0,
    "threads": 2,
}
SHAPE = {
    "arch": "modern",
    "depth": 4,
    "width": 128,
    "heads": 4,
    "kv_heads": 4,
    "head_dim": 32,
    "vocab_size": 2048,
    "sequence_length": 256,
    "window_pattern": "SSSL",
}
TOKENIZER_JSON = '{"model": "the tokenizer of the run"}'


def score(task: str, right: int, items: int, available: int, chance: float, metric: str = "generate") -> Score:
    records = [{"item": item, "correct": item < right} for item in range(items)]
    return score_records(task, metric, records, available=available, chance=chance, seconds=2.5)


@dataclass
class RunFolder:
    """Writes artifacts of one run; every method returns the manifest it made."""

    root: Path
    tokens: list[Path] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.root / "results" / "d4"

    def write(
        self,
        place: str,
        stage: str,
        files: dict[str, str],
        inputs: dict[str, Path] | None = None,
        settings: dict[str, Any] | None = None,
        history: Callable[[Metrics], None] | None = None,
        **fields: Any,
    ) -> Manifest:
        out = self.root / place if place.startswith("data/") else self.folder / place
        view = STAGES[stage].model_validate(settings or {})
        with Workspace(out, stage, view, inputs or {}) as workspace:
            for name, text in files.items():
                (workspace.final / name).write_text(text)
            if history:
                metrics = Metrics(workspace.progress / "metrics.jsonl", stage=stage, run="d4", total_steps=100)
                history(metrics)
                metrics.close()
                text = (workspace.progress / "metrics.jsonl").read_text()
                (workspace.final / "metrics.jsonl").write_text(text)
            return workspace.finish(hardware=HARDWARE, **fields)

    def tokenizer(self, text: str = TOKENIZER_JSON) -> Manifest:
        files = {"tokenizer.json": text}
        return self.write("tokenizer", "tokenizer", files, wall_seconds=4.2, metrics={"vocab_size": 2048})

    def tokenizer_eval(self) -> Manifest:
        kinds = {"validation text": (120_000, 31_000), "English prose": (2_000, 640), "Python code": (1_500, 700)}
        table = [
            {"text": kind, "bytes": bytes_, "tokens": tokens, "bytes_per_token": bytes_ / tokens}
            for kind, (bytes_, tokens) in kinds.items()
        ]
        inputs = {"tokenizer": self.folder / "tokenizer"}
        metrics = {"table": table, "gpt2": "not available offline"}
        return self.write("eval/tokenizer", "tokenizer_eval", {}, inputs, wall_seconds=1.1, metrics=metrics)

    def shards(self, number: int = 3) -> None:
        for index in range(number):
            metrics = {"documents": 1200 + index, "tokens": 310_000, "bytes": 1_200_000, "skipped": {"empty": index}}
            place = f"data/world/tokens/abc/shard_{index:05d}"
            inputs = {"tokenizer": self.folder / "tokenizer"}
            self.write(place, "tokens", {"tokens.bin": f"{index}"}, inputs, wall_seconds=0.8, metrics=metrics)
            self.tokens.append(self.root / place)

    def base(self) -> Manifest:
        def history(metrics: Metrics) -> None:
            chance = random.Random(3)
            metrics.log(0, val_bpb=2.71)
            for step in range(1, 601):
                loss = 2.0 + 5.6 * math.exp(-step / 60) + chance.gauss(0, 0.06)
                metrics.log(step, loss=loss, lr=1.0, tokens_per_second=15_800, seconds=0.26)
                if step % 100 == 0:
                    metrics.log(step, val_bpb=0.45 + 2.26 * math.exp(-step / 90))

        inputs = {"tokenizer": self.folder / "tokenizer"}
        inputs |= {f"train_{i}": path for i, path in enumerate(self.tokens[:-1])} | {"val": self.tokens[-1]}
        return self.write(
            "base",
            "base",
            self._checkpoint("base", "The town of Ashford lies by the river."),
            inputs,
            {"depth": 4, "model": {"sequence_length": 256, "head_dim": 32, "aspect_ratio": 32}},
            history,
            steps=600,
            tokens=2_457_600,
            flops=1.62e13,
            wall_seconds=171.0,
            peak_memory_bytes=912_000_000,
            metrics={
                "parameters": {"total": 1_312_000, "matrices": 786_432},
                "initial_val_bpb": 2.71,
                "val_bpb": 0.452,
                "train_loss": 2.01,
                "tokens_per_second": 15_790.4,
                "mfu_datasheet": None,
                "mfu_measured": 0.331,
                "device_batch_size": 32,
            },
        )

    def base_eval(self) -> Manifest:
        scores = [
            score("world_choice", 124, 200, 480, 0.25, "multiple_choice"),
            score("world_cloze", 82, 200, 200, 0.0, "language_modeling"),
        ]
        core = mean_summary(scores, core_extent({one.task: (one.items, one.available) for one in scores}))
        metrics = {"bpb": {"train": 0.431, "val": 0.452, "val_own": 0.811, "unigram": 1.913}}
        files = {"scores.json": json.dumps({"scores": [one.row() for one in scores], "summary": {"core": core}})}
        inputs = {"model": self.folder / "base"}
        return self.write("eval/base", "base_eval", files, inputs, wall_seconds=21.0, metrics=metrics)

    def finetune(self, stage: str, init: str, text: str) -> Manifest:
        def history(metrics: Metrics) -> None:
            for step in range(1, 151):
                metrics.log(step, loss=0.6 + 1.4 * math.exp(-step / 40))
                if step % 50 == 0:
                    metrics.log(step, val_bpb=0.3 + 0.4 * math.exp(-step / 40))

        return self.write(
            stage,
            stage,
            self._checkpoint(stage, text),
            {"init": self.folder / init},
            {stage: {"mixture": {"word_problems": {"epochs": 2}, "choice": {"max_items": 3000}}}},
            history,
            steps=150,
            tokens=614_400,
            flops=4.1e12,
            wall_seconds=48.0,
            peak_memory_bytes=905_000_000,
            metrics={"parameters": {"total": 1_312_000}, "initial_val_bpb": 0.71, "val_bpb": 0.31},
        )

    def rl(self) -> Manifest:
        def history(metrics: Metrics) -> None:
            chance = random.Random(5)
            for step in range(1, 61):
                reward = 0.85 - 0.45 * math.exp(-step / 25) + chance.gauss(0, 0.03)
                metrics.log(
                    step,
                    reward=reward,
                    response_tokens=38 - step / 10,
                    entropy=0.4,
                    seconds_rollout=0.9,
                    seconds_reward=0.01,
                    seconds_update=0.4,
                )
                if step % 20 == 0:
                    metrics.log(step, pass_at_1=0.45 + step / 200)

        return self.write(
            "rl",
            "rl",
            self._checkpoint("rl", "<|python_start|>3+4<|python_end|> #### 7"),
            {"init": self.folder / "sft"},
            None,
            history,
            steps=60,
            wall_seconds=88.0,
            metrics={"reward": 0.84, "pass_at_1": 0.75},
        )

    def chat_eval(self, stage: str, right: int) -> Manifest:
        scores = [
            score("choice", 40 + right // 4, 100, 600, 0.25, "choice"),
            score("word_problems", right, 100, 300, 0.0),
            score("letter_counting", min(100, right + 30), 100, 100, 0.0),
        ]
        chat_score = mean_summary(scores, extent([(one.items, one.available) for one in scores]))
        records = pd.DataFrame(
            [
                {
                    "task": one.task,
                    "item": i,
                    "prompt": "?",
                    "reply": "!",
                    "gold": "!",
                    "correct": i < round(one.value * 100),
                }
                for one in scores
                for i in range(100)
            ]
        )
        records.to_parquet(self.root / "records.parquet")
        out = self.folder / "eval" / stage
        view = STAGES["chat_eval"].model_validate({})
        with Workspace(out, "chat_eval", view, {"model": self.folder / stage}) as workspace:
            write_scores(workspace.final, scores, {"chat_score": chat_score})
            (self.root / "records.parquet").rename(workspace.final / "records.parquet")
            return workspace.finish(hardware=HARDWARE, wall_seconds=19.5)

    def benchmarks(self) -> None:
        header = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
        for name, seconds in (("world", 3.0), ("base", 176.0), ("chat_eval/sft", 24.0), ("tokens/shard_00000", 1.4)):
            path = self.folder / "benchmarks" / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{header}{seconds}\t0:00:03\t870.1\t1\t1\t1\t0.0\t1.2\t98.1\t{seconds * 1.9}\n")
        (self.folder / "benchmarks" / "mid.tsv").write_text("")
        (self.folder / "benchmarks" / "sft.tsv").write_text(header + "NA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n")

    def _checkpoint(self, stage: str, text: str) -> dict[str, str]:
        samples = f"# Samples\n\n## Anna lives in\n\n```text\nAnna lives in Ashford. {text}\n```\n"
        return {
            "model.safetensors": f"weights of {stage}",
            "model.json": json.dumps(SHAPE),
            "tokenizer.json": TOKENIZER_JSON,
            "samples.md": samples,
        }

    def everything(self) -> None:
        self.until_sft()
        self.rl()
        self.chat_eval("rl", 76)

    def until_sft(self) -> None:
        self.tokenizer()
        self.tokenizer_eval()
        self.shards()
        self.base()
        self.base_eval()
        self.finetune("mid", "base", "Hello! I am a small model.")
        self.chat_eval("mid", 31)
        self.finetune("sft", "mid", "The pet of Anna is a cat.")
        self.chat_eval("sft", 52)
        self.benchmarks()


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)
