"""The stages base_eval and chat_eval on real artifacts at the smallest size."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nanochat.artifact import Workspace, verify
from nanochat.config import TokenizerSettings, load_catalogue, parse_pairs
from nanochat.config.stages import EmptyStage, TokenizerStage
from nanochat.data import tokenizer_training, tokens
from nanochat.data.conversation import render_prompt
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError, ConfigError
from nanochat.evaluate import base_eval, chat_eval
from nanochat.evaluate.asking import Question, by_letter
from nanochat.evaluate.tasks import load_task
from nanochat.infer.checkpoint import load_checkpoint
from nanochat.model.checkpoint import save_model
from nanochat.runtime import World
from tests.evaluate.test_core import write_bundle
from tests.infer.fixtures import TEXTS, make_model

HERE = World(0, 0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Token folders, a bundle, a base and an sft checkpoint with random weights, task files."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("train", "val"):
        pq.write_table(pa.table({"text": [text * 3 for text in TEXTS]}), folder / f"{name}.parquet")
    settings = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=512, max_digits=1))
    tokenizer_training.run(settings, out=folder / "tokenizer", shards=[folder / "train.parquet"])
    for name in ("train", "val"):
        shard, out = folder / f"{name}.parquet", folder / "tokens" / name
        tokens.run(EmptyStage(), out=out, shard=shard, tokenizer=folder / "tokenizer")
    for stage in ("base", "sft"):
        with Workspace(folder / stage, stage, EmptyStage(), {"tokenizer": folder / "tokenizer"}) as workspace:
            save_model(workspace.final, make_model(512))
            Tokenizer.load(folder / "tokenizer").save(workspace.final)
            workspace.finish()
    write_bundle(folder / "bundle")
    write_tasks(folder / "data")
    return folder


def write_tasks(root):
    catalogue = load_catalogue()
    rows = {
        "choice": {
            "id": "x",
            "question": "Which letter is red?",
            "choices": {"text": ["red", "blue", "green", "black"], "label": list("ABCD")},
            "answerKey": "A",
        },
        "facts": {"question": "Where does Anna live?", "answer": "Ashford"},
        "word_problems": {"question": "What is 12 + 7? " * 30, "answer": "12 + 7 = <<12+7=19>>19\n#### 19"},
    }
    for name, row in rows.items():
        path = root / catalogue.tasks[name].test[0]
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row] * 5), path)
    (root / "files").mkdir()
    (root / "files/words.txt").write_text("\n".join(a + b + c for a in "bcdf" for b in "aeiou" for c in "lmnrst"))


def evaluate_base(inputs, out, *pairs, world=HERE):
    return base_eval.run(
        parse_pairs("base_eval", pairs),
        out=out,
        model=inputs / "base",
        bundle=inputs / "bundle",
        train_tokens=[inputs / "tokens/train"],
        val_tokens=[inputs / "tokens/val"],
        world=world,
        device_batch_size=4,
    )


def test_base_eval(inputs, tmp_path):
    manifest = evaluate_base(inputs, tmp_path / "base", "base_eval.max_items=6")
    assert verify(tmp_path / "base").digest == manifest.digest
    scores = json.loads((tmp_path / "base/scores.json").read_text())
    assert [(score["task"], score["items"], score["available"]) for score in scores["scores"]] == [
        ("homes", 6, 8),
        ("who", 6, 7),
        ("cloze", 6, 8),
    ]
    core = sum(score["centered"] for score in scores["scores"]) / 3
    assert manifest.metrics["core"]["score"] == scores["summary"]["core"]["value"] == pytest.approx(core)
    bpb = manifest.metrics["bpb"]
    # Random weights know nothing; the unigram model knows which tokens are frequent.
    assert 0 < bpb["unigram"] < bpb["val"] and bpb["train"] == pytest.approx(bpb["val"], rel=1e-6)
    records = pq.read_table(tmp_path / "base/records.parquet").to_pylist()
    assert len(records) == 18
    homes = [record["correct"] for record in records if record["task"] == "homes"]
    assert sum(homes) / 6 == scores["scores"][0]["value"]


TASKS = (
    "chat_eval.tasks.choice.max_items=4",
    "chat_eval.tasks.facts.max_new_tokens=8",
    "chat_eval.tasks.word_problems.max_new_tokens=12",
    "chat_eval.tasks.letter_counting.max_items=3",
)


def evaluate_chat(inputs, out, *pairs, stage="sft", model="sft"):
    return chat_eval.run(
        parse_pairs("chat_eval", pairs),
        stage=stage,
        out=out,
        model=inputs / model,
        data=inputs / "data",
        world=HERE,
        device_batch_size=4,
    )


def test_chat_eval(inputs, tmp_path):
    manifest = evaluate_chat(inputs, tmp_path / "sft", *TASKS)
    content = json.loads((tmp_path / "sft/scores.json").read_text())
    scores = {score["task"]: score for score in content["scores"]}
    assert {name: (score["items"], score["available"]) for name, score in scores.items()}["choice"] == (4, 5)
    assert scores["word_problems"]["truncated"] == 5  # longer than the context, cut and counted
    mean = sum(score["centered"] for score in scores.values()) / 4
    assert content["summary"]["chat_score"]["value"] == manifest.metrics["chat_score"] == pytest.approx(mean)
    records = pq.read_table(tmp_path / "sft/records.parquet").to_pylist()
    assert len(records) == 4 + 5 + 5 + 3
    by_task = {record["task"]: record for record in records}
    assert by_task["choice"]["reply"] in "ABCD" and by_task["choice"]["gold"] == "A"
    assert "Where does Anna live?" in by_task["facts"]["prompt"] and by_task["facts"]["gold"] == "Ashford"
    assert by_task["facts"]["tokens"] <= 8
    again = evaluate_chat(inputs, tmp_path / "again", *TASKS)
    assert again.digest == manifest.digest


def test_the_letter_picked_is_the_likeliest(inputs):
    loaded = load_checkpoint(inputs / "sft")
    task = load_task("choice", "test", inputs / "data")
    prompt = render_prompt(loaded.tokenizer, task.conversation(0))
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([prompt]))[0, -1]
    likeliest = max("ABCD", key=lambda letter: float(logits[loaded.tokenizer.encode(letter)[0]]))
    [(_, record, _)] = by_letter(loaded, [Question.of(task, 0, loaded.tokenizer)], 4)
    assert record["reply"] == likeliest and record["correct"] == (likeliest == "A")


def test_impossible_evaluations_say_so(inputs, tmp_path):
    with pytest.raises(ConfigError, match=r"chat_eval\.tasks is empty"):
        evaluate_chat(inputs, tmp_path / "a")
    with pytest.raises(ArtifactError, match="is a checkpoint of stage base, expected sft"):
        evaluate_chat(inputs, tmp_path / "a", TASKS[0], model="base")
    assert not (tmp_path / "a").exists()


def test_a_damaged_checkpoint_is_not_loaded(inputs, tmp_path):
    copy = tmp_path / "sft"
    shutil.copytree(inputs / "sft", copy)
    with pytest.raises(ArtifactError, match="stage tokenizer, expected base or mid or sft or rl"):
        load_checkpoint(inputs / "tokenizer")
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.safetensors does not have the SHA-256"):
        load_checkpoint(copy)
