"""A base evaluation that is killed goes on with the items that are left, and finds what an undisturbed one finds."""

import json
import shutil
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch

from nanochat.artifact import Workspace
from nanochat.errors import ArtifactError
from nanochat.evaluate import core_batches, recorder
from nanochat.evaluate.core import read_bundle
from nanochat.evaluate.core_batches import evaluate_tasks
from nanochat.evaluate.item_log import ItemLog
from nanochat.infer import scoring
from nanochat.infer.checkpoint import load_checkpoint
from nanochat.runtime import World
from tests.conftest import REPOSITORY
from tests.evaluate.test_stages import HERE, evaluate_base, inputs

__all__ = ["inputs"]

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from nanochat.evaluate import recorder
from nanochat.evaluate.item_log import ItemLog
from tests.evaluate.test_stages import evaluate_base

recorder.KEEP_SECONDS = 0.0

torch.set_num_threads(int(sys.argv[4]))
real, count = ItemLog.add, 0


def add(self, records):
    global count
    real(self, records)
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)


ItemLog.add = add
evaluate_base(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture
def batches(monkeypatch):
    """The items of each batch that is computed, as (task, item)."""
    real, done = core_batches.evaluate_batch, []

    def counted(model, batch):
        done.append([(item.task.label, item.index) for item in batch])
        return real(model, batch)

    monkeypatch.setattr(core_batches, "evaluate_batch", counted)
    monkeypatch.setattr(recorder, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(scoring, "CPU_TOKENS", 96)  # more batches
    return done


def test_a_killed_evaluation_goes_on_at_the_item(inputs, tmp_path, batches, monkeypatch):
    monkeypatch.setattr(scoring, "CPU_TOKENS", 2048)
    out = tmp_path / "base"
    arguments = [str(inputs), str(out), "1", str(torch.get_num_threads())]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=REPOSITORY, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert not out.exists()
    resumed = evaluate_base(inputs, out)
    later = {item for batch in batches for item in batch}
    batches.clear()
    whole = evaluate_base(inputs, tmp_path / "other")
    assert {item for batch in batches for item in batch} - later == set(batches[0])  # all but the first batch
    assert resumed.digest == whole.digest
    assert (out / "records.parquet").read_bytes() == (tmp_path / "other/records.parquet").read_bytes()
    batches.clear()
    shutil.rmtree(out)
    assert evaluate_base(inputs, out).digest == whole.digest and batches == []


def test_an_interrupted_batch_is_done_as_a_whole(inputs, tmp_path, batches, monkeypatch):
    whole = evaluate_base(inputs, tmp_path / "other")
    every = list(batches)
    assert len(every) > 8 and any(len(batch) > 1 for batch in every)
    batches.clear()
    real = ItemLog.add

    def until_the_fifth(self, records):
        if len(batches) == 5:
            raise KeyboardInterrupt
        real(self, records)

    monkeypatch.setattr(ItemLog, "add", until_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        evaluate_base(inputs, tmp_path / "base")
    monkeypatch.setattr(ItemLog, "add", real)
    batches.clear()
    assert evaluate_base(inputs, tmp_path / "base").digest == whole.digest
    assert batches == every[4:]


def run(loaded, bundle, folder, *, max_items=None, rows=4, world=HERE):
    return evaluate_tasks(
        loaded.model,
        loaded.tokenizer,
        read_bundle(bundle),
        max_items=max_items,
        device_batch_size=rows,
        world=world,
        items=ItemLog(folder, world.rank),
    )


def without_seconds(records):
    assert all(record["seconds"] > 0 for found in records.values() for record in found)
    return {label: [r | {"seconds": 0} for r in found] for label, found in records.items()}


class Half(World):
    """One of two ranks that do not hear of each other."""

    def gather_objects(self, value):
        return [value]

    def broadcast_object(self, value):
        return value if self.is_main else {}


@pytest.mark.parametrize("max_items", [None, 3])
def test_ranks_share_the_items(inputs, tmp_path, batches, max_items):
    loaded = load_checkpoint(inputs / "base")
    whole = run(loaded, inputs / "bundle", tmp_path / "one", max_items=max_items)
    alone = sorted(map(sorted, batches))
    batches.clear()
    folder = tmp_path / "two"
    for rank in (0, 1):  # both begin before anything is done
        run(
            loaded,
            inputs / "bundle",
            tmp_path / f"rank-{rank}",
            max_items=max_items,
            world=Half(rank, rank, 2, HERE.device),
        )
    assert sorted(map(sorted, batches)) == alone  # the same batches, each done by one rank
    folder.mkdir()
    for rank in (0, 1):
        shutil.copy(tmp_path / f"rank-{rank}" / f"items-{rank}.jsonl", folder)
    batches.clear()
    merged = run(loaded, inputs / "bundle", folder, max_items=max_items)
    assert batches == [] and without_seconds(merged) == without_seconds(whole)


def test_a_log_serves_other_batches_and_fewer_items(inputs, tmp_path, batches):
    loaded = load_checkpoint(inputs / "base")
    some = run(loaded, inputs / "bundle", tmp_path / "log", max_items=5)
    assert {label: len(found) for label, found in some.items()} == {"homes": 5, "who": 5, "cloze": 5}
    batches.clear()
    fewer = run(loaded, inputs / "bundle", tmp_path / "log", max_items=2, rows=1)
    assert batches == [] and fewer == {label: found[:2] for label, found in some.items()}
    whole = without_seconds(run(loaded, inputs / "bundle", tmp_path / "log", rows=2))
    assert all(index >= 5 for batch in batches for _, index in batch)
    expected = without_seconds(run(loaded, inputs / "bundle", tmp_path / "new"))
    for label, found in expected.items():
        for one, other in zip(whole[label], found, strict=True):
            assert one == other | {"loss_sums": pytest.approx(other["loss_sums"], abs=1e-3)}


def test_scores_say_what_they_are_of(inputs, tmp_path):
    evaluate_base(inputs, tmp_path / "base", "base_eval.max_items=6")
    scores = {score["task"]: score for score in json.loads((tmp_path / "base/scores.json").read_text())["scores"]}
    homes = scores["homes"]
    assert homes["subset"] and (homes["items"], homes["available"], homes["shots"]) == (6, 8, 3)
    assert homes["above_chance"] == pytest.approx(homes["value"] - homes["chance"])
    assert homes["centered"] == pytest.approx((homes["value"] - 0.25) / 0.75)
    assert homes["fallbacks"] == 0 and homes["seconds"] > 0 and homes["stderr"] > 0
    records = pq.read_table(tmp_path / "base/records.parquet").to_pylist()
    cut = [record["truncated"] for record in records if record["task"] == "homes"]
    assert 0 < homes["truncated"] == sum(cut) and scores["who"]["truncated"] == 0
    for record in records:
        assert len(record["loss_sums"]) == len(record["loss_tokens"]) == len(record["context_tokens"])
        assert len(record["prompt"]) == 16 and "seconds" not in record


def test_progress_is_logged(inputs, tmp_path, caplog):
    with caplog.at_level("INFO"):
        evaluate_base(inputs, tmp_path / "base")
    assert any(
        "23 of 23 items" in record.getMessage() and "0 s left" in record.getMessage() for record in caplog.records
    )


def test_what_the_means_are_of_stands_beside_them(inputs, tmp_path, caplog):
    with caplog.at_level("INFO"):
        manifest = evaluate_base(inputs, tmp_path / "base", "base_eval.bpb_tokens=1024")
    summary = json.loads((tmp_path / "base/scores.json").read_text())["summary"]
    assert summary["core"]["subset"] and summary["core"]["extent"] == "3 tasks, none of CORE's 22"
    assert manifest.metrics["core"]["extent"] == summary["core"]["extent"]
    assert any(m.startswith("CORE") and m.endswith("(3 tasks, none of CORE's 22)") for m in caplog.messages)
    assert 0 < summary["bpb_tokens"]["val"] <= 1024 and manifest.metrics["bpb_tokens"] == summary["bpb_tokens"]


def test_another_stage_is_refused(inputs, tmp_path):
    folder = tmp_path / "inputs"
    shutil.copytree(inputs, folder)
    shutil.rmtree(folder / "base")
    shutil.copytree(inputs / "sft", folder / "base")
    with pytest.raises(ArtifactError, match="checkpoint of stage sft, expected base"):
        evaluate_base(folder, tmp_path / "base")


def test_a_checkpoint_replaced_while_another_process_evaluated_is_refused(inputs, tmp_path, monkeypatch):
    folder = tmp_path / "inputs"
    shutil.copytree(inputs, folder)
    real = Workspace.__enter__

    def waits(workspace):
        manifest = json.loads((folder / "base/manifest.json").read_text())
        (folder / "base/manifest.json").write_text(json.dumps(manifest | {"inputs": {"tokenizer": "other"}}))
        return real(workspace)

    monkeypatch.setattr(Workspace, "__enter__", waits)
    with pytest.raises(ArtifactError, match="was replaced by another checkpoint"):
        evaluate_base(folder, tmp_path / "base")


def test_losses_that_are_no_numbers_are_no_answers(inputs, tmp_path):
    loaded = load_checkpoint(inputs / "base")
    with torch.no_grad():
        loaded.model.head.weight.fill_(float("nan"))
    with pytest.raises(ArtifactError, match=r"item \d+: the model's losses are nan"):
        run(loaded, inputs / "bundle", tmp_path)


def test_half_a_surrogate_pair_in_an_answer_is_recorded(inputs, tmp_path):
    folder = tmp_path / "inputs"
    shutil.copytree(inputs, folder)
    line = '{"context": "Anna lives in", "continuation": "Ash\\ud800ford"}\n'
    (folder / "bundle/eval_data/a/cloze.jsonl").write_text(line)
    evaluate_base(folder, tmp_path / "base")
    records = pq.read_table(tmp_path / "base/records.parquet").to_pylist()
    assert [record["gold"] for record in records if record["task"] == "cloze"] == ["Ash?ford"]
