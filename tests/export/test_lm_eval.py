"""lm-evaluation-harness on an export, over our rendered prompts, against our own scoring of the checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nanochat.config import parse_pairs
from nanochat.config.stages import EmptyStage
from nanochat.data.world.bundle import write_bundle
from nanochat.data.world.facts import build_world
from nanochat.evaluate.core import read_bundle, render_items, texts_of
from nanochat.export import export
from nanochat.export.core_prompts import PREFIX, run
from nanochat.infer.scoring import Span, span_losses
from tests.export.conftest import checkpoint
from tests.infer.fixtures import TEXTS, make_model, make_tokenizer

pytest.importorskip("transformers", minversion="5.0", reason="transformers reads exports; not installed")
pytest.importorskip("lm_eval", reason="lm-evaluation-harness is what our scores are compared with; not installed")
pytest.importorskip("accelerate", reason="lm-evaluation-harness needs accelerate for local models; not installed")

# Solved examples alone fill thousands of tokens of this small vocabulary.
CONTEXT = 8192
SHARED = {"arc_easy": 4, "copa": 20, "winograd": 20, "lambada_openai": 20, "bigbench_qa_wikidata": 10, "boolq": 1}


class Harness:
    """A checkpoint, its export, and what the harness says of it."""

    def __init__(self, folder: Path, arch: str) -> None:
        self.folder, self.tokenizer = folder, make_tokenizer()
        self.model = make_model(512, arch, context=CONTEXT)
        (folder / "shard").write_text("text")
        shard = {"train/world/shard_00000": folder / "shard"}
        checkpoint(folder / "base", "base", self.model, self.tokenizer, EmptyStage(), shard)
        self.export = folder / "export" / "base"
        export.run(parse_pairs("export", []), out=self.export, model=folder / "base")

    def evaluate(self, bundle: Path, items: dict[str, int]) -> dict:
        """Task → what the harness says of its items."""
        prompts = self.folder / f"prompts-{bundle.name}"
        names = []
        for label, count in items.items():
            names += run(bundle=bundle, out=prompts, tasks=[label], max_items=count, model=self.folder / "base")
        out = self.folder / "answers.json"
        worker = Path(__file__).with_name("lm_eval_worker.py")
        keep = ("PATH", "OMP_NUM_THREADS", "LANG")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        environment |= {
            "HOME": str(self.folder),  # nothing is read from or left in the user's caches
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        done = subprocess.run(
            [sys.executable, str(worker), str(self.export), str(prompts), str(out), *names],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(out.read_text())

    def check(self, bundle: Path, items: dict[str, int]) -> dict:
        """The harness's sums, greedy flags and picks are ours."""
        said = self.evaluate(bundle, items)
        for task in read_bundle(bundle, list(items)):
            samples = said["samples"][PREFIX + task.label]
            assert [sample["item"] for sample in samples] == list(range(items[task.label]))
            right = [self._check_item(task, sample) for sample in samples]
            assert said["acc"][PREFIX + task.label] == pytest.approx(sum(right) / len(right))
        return said

    def _check_item(self, task, sample) -> bool:
        options = texts_of(task, sample["item"])
        assert [tuple(texts) for texts in sample["texts"]] == options
        losses = span_losses(self.model, [self._span(*texts) for texts in options], 1)
        sums = [-total for total, _ in sample["answers"]]
        assert sums == pytest.approx([loss.total for loss in losses], abs=1e-3, rel=0)
        if task.kind == "language_modeling":
            (_, greedy), (loss,) = sample["answers"][0], losses
            assert greedy == loss.greedy
            (ours,) = span_losses(self.model, render_items(task, [sample["item"]], self.tokenizer)[0].spans, 1)
            assert (ours.total, ours.tokens, ours.greedy) == pytest.approx((loss.total, loss.tokens, greedy), abs=1e-3)
            return ours.greedy
        picked = min(range(len(sums)), key=sums.__getitem__)
        assert picked == min(range(len(losses)), key=lambda option: losses[option].total)
        if task.kind == "multiple_choice":
            # Our spans leave out what all choices have in common: the sums differ by one number, their order does not.
            spans = render_items(task, [sample["item"]], self.tokenizer)[0].spans
            ours = [loss.total for loss in span_losses(self.model, spans, 1)]
            differences = [theirs - own for theirs, own in zip(sums, ours)]
            assert differences == pytest.approx([differences[0]] * len(ours), abs=2e-3, rel=0)
            assert picked == ours.index(min(ours))
        assert sample["acc"] == float(picked == task.items[sample["item"]]["gold"])
        return picked == task.items[sample["item"]]["gold"]

    def _span(self, context: str, continuation: str) -> Span:
        """Where the harness begins to judge: where the context ends, blanks at its end being the continuation's."""
        bos, encode = self.tokenizer.bos, self.tokenizer.encode
        return Span((bos, *encode(context + continuation)), 1 + len(encode(context.rstrip())))


def add_greedy_items(bundle: Path, harness: Harness) -> int:
    """A task of contexts and what the model itself goes on with, as far as it is text; else no answer is greedy."""
    items = []
    words = " ".join(dict.fromkeys(TEXTS)).split()
    for context in (" ".join(words[:end]) for end in range(1, len(words))):
        ids = [harness.tokenizer.bos, *harness.tokenizer.encode(context)]
        with torch.no_grad():
            chosen = int(harness.model(torch.tensor([ids]))[0, -1].argmax())
        continuation = harness.tokenizer.decode([chosen])
        if continuation.strip() and harness.tokenizer.encode(context + continuation) == [*ids[1:], chosen]:
            items.append({"context": context, "continuation": continuation})
    with (bundle / "core.yaml").open("a") as file:
        file.write("- label: greedy\n  dataset_uri: greedy.jsonl\n  num_fewshot: [0]\n")
        file.write("  icl_task_type: language_modeling\n  continuation_delimiter: ''\n")
    (bundle / "eval_data" / "greedy.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return len(items)


def test_the_embedded_world(tmp_path):
    bundle = tmp_path / "bundle"
    write_bundle(build_world(1, 16), 1, 12, bundle)
    items = {task.label: min(4, len(task.items)) for task in read_bundle(bundle)}
    harness = Harness(tmp_path, "modern")
    items["greedy"] = add_greedy_items(bundle, harness)
    assert items["greedy"] >= 4
    assert {task.kind for task in read_bundle(bundle)} == {"multiple_choice", "schema", "language_modeling"}
    assert harness.check(bundle, items)["acc"][f"{PREFIX}greedy"] == 1.0


@pytest.mark.shared
def test_the_public_bundle(tmp_path, shared_hub):
    bundle = shared_hub / "eval_bundle"
    tasks = {task.label: task for task in read_bundle(bundle, list(SHARED))}
    assert {task.kind for task in tasks.values()} == {"multiple_choice", "schema", "language_modeling"}
    harness = Harness(tmp_path, "classic")
    spans = [
        harness._span(*texts)
        for label, count in SHARED.items()
        for index in range(count)
        for texts in texts_of(tasks[label], index)
    ]
    # Beyond the context the harness would keep one token more than we do.
    assert max(len(span.tokens) for span in spans) <= CONTEXT
    harness.check(bundle, SHARED)
