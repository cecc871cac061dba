"""Runs with two random models, and their exports."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import Field

from nanochat.artifact import Workspace
from nanochat.config import Settings, parse_pairs
from nanochat.config.stages import EmptyStage
from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.core_tasks import core_extent
from nanochat.evaluate.scores import Score, extent, mean_summary, write_scores
from nanochat.export.export import run
from nanochat.model.checkpoint import save_model
from nanochat.model.gpt import GPT
from tests.infer.fixtures import make_model, make_tokenizer

CONTEXT = 128


class SftView(Settings):
    """As much of an SFT view as a model card reads."""

    sft: dict = Field(default={"mixture": {"gsm8k": {}, "my_own": {}}})


@dataclass(frozen=True)
class Exported:
    """A run of base and sft, the sft exported."""

    run: Path
    folder: Path
    model: GPT
    tokenizer: Tokenizer


def checkpoint(path: Path, stage: str, model: GPT, tokenizer: Tokenizer, view: Settings, inputs: dict) -> None:
    with Workspace(path, stage, view, inputs) as workspace:
        save_model(workspace.final, model)
        tokenizer.save(workspace.final)
        total = sum(parameter.numel() for parameter in model.parameters())
        hardware = {"device": "cpu", "devices": 0, "cpu": "an old one", "cores": 2}
        metrics = {"parameters": {"total": total}}
        workspace.finish(steps=7, tokens=12_345, flops=1.5e9, wall_seconds=61.0, metrics=metrics, hardware=hardware)


def evaluation(path: Path, stage: str, model: Path, items: int = 200) -> None:
    score = Score("gsm8k", "generate", 0.125, 0.0234, items, 1319, chance=0.0, centered=0.125, seconds=1.0)
    if stage == "base_eval":
        headline, left_out = "core", core_extent({"gsm8k": (items, 1319)})
    else:
        headline, left_out = "chat_core", extent([(items, 1319)])
    with Workspace(path, stage, EmptyStage(), {"model": model}) as workspace:
        write_scores(workspace.final, [score], {headline: mean_summary([score], left_out)})
        workspace.finish()


def make_run(folder: Path, arch: str, tokenizer: Tokenizer) -> GPT:
    model = make_model(tokenizer.vocab_size, arch, context=CONTEXT, windows="SSSL")
    text = folder / "shard"
    text.write_text("text")
    base = folder / "base"
    checkpoint(base, "base", make_model(512, arch, 2), tokenizer, EmptyStage(), {"train/climbmix/shard_00000": text})
    checkpoint(folder / "sft", "sft", model, tokenizer, SftView(), {"init": base})
    evaluation(folder / "eval" / "base", "base_eval", base)
    evaluation(folder / "eval" / "sft", "chat_eval", folder / "sft")
    return model


def export(folder: Path, stage: str = "sft", settings: tuple[str, ...] = (), out: Path | None = None) -> Path:
    out = out or folder / "export" / stage
    run(
        parse_pairs("export", settings),
        out=out,
        model=folder / stage,
        earlier=[folder / "base"] if stage == "sft" else [],
        evaluations=[folder / "eval" / name for name in dict.fromkeys(("base", stage))],
    )
    return out


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """Form → export; made when first asked for."""
    made = {}

    def of(arch: str) -> Exported:
        if arch not in made:
            folder, tokenizer = tmp_path_factory.mktemp("results") / f"tiny-{arch}", make_tokenizer()
            folder.mkdir()
            model = make_run(folder, arch, tokenizer)
            made[arch] = Exported(folder, export(folder), model, tokenizer)
        return made[arch]

    return of


@pytest.fixture(scope="package")
def transformers(tmp_path_factory):
    """The library, offline, keeping copies of remote code in a folder of the test's."""
    patch = pytest.MonkeyPatch()
    # Not by the variable: other tests' processes would inherit it.
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    library = pytest.importorskip("transformers", minversion="5.0", reason="transformers reads exports; not installed")
    patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
    yield library
    patch.undo()


@pytest.fixture(scope="package")
def load(transformers):
    """Folder → model and tokenizer, the way its card says."""

    def load(folder: Path, **options):
        remote = "auto_map" in json.loads((folder / "config.json").read_text())
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=remote, **options)
        return model.eval(), transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=remote)

    return load
