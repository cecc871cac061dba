"""Chat evaluation: samples and pass@k, categories, isolation, and going on at the item after a kill."""

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nanochat.artifact import Workspace
from nanochat.config import TokenizerSettings, load_catalogue, load_config, parse_pairs
from nanochat.config.stages import EmptyStage, TokenizerStage
from nanochat.data import tokenizer_training
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError, ConfigError
from nanochat.evaluate import chat_eval, recorder
from nanochat.evaluate.asking import Question, by_letter
from nanochat.evaluate.item_log import ItemLog
from nanochat.evaluate.recorder import Recorder
from nanochat.evaluate.scores import pass_at_k
from nanochat.evaluate.tasks import load_task
from nanochat.evaluate.tasks.gsm8k import Gsm8k
from nanochat.evaluate.tasks.mmlu import subject_categories
from nanochat.infer.checkpoint import load_checkpoint
from nanochat.model.checkpoint import save_model
from nanochat.runtime import World
from tests.infer.fixtures import TEXTS, make_model

SUBJECTS = ("astronomy", "sociology", "astronomy", "virology", "my_own", "philosophy")
TASKS = (
    "chat_eval.tasks.subjects.max_items=5",
    "chat_eval.tasks.facts.max_new_tokens=8",
    "chat_eval.tasks.word_problems.max_new_tokens=10",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """An sft checkpoint with random weights and the files of three tasks."""
    folder = tmp_path_factory.mktemp("inputs")
    pq.write_table(pa.table({"text": [text * 3 for text in TEXTS]}), folder / "train.parquet")
    settings = TokenizerStage(tokenizer=TokenizerSettings(vocab_size=512, max_digits=1))
    tokenizer_training.run(settings, out=folder / "tokenizer", shards=[folder / "train.parquet"])
    with Workspace(folder / "sft", "sft", EmptyStage(), {"tokenizer": folder / "tokenizer"}) as workspace:
        save_model(workspace.final, make_model(512))
        Tokenizer.load(folder / "tokenizer").save(workspace.final)
        workspace.finish()
    question = "Which letter is red? Number {}"
    rows = {
        "subjects": [
            {
                "question": question.format(n),
                "subject": subject,
                "choices": ["red", "blue", "green", "black"],
                "answer": 0,
            }
            for n, subject in enumerate(SUBJECTS)
        ],
        "facts": [{"question": f"Where does Anna {n} live?", "answer": "Ashford"} for n in range(12)],
        "word_problems": [{"question": f"What is {n} + 7?", "answer": f"#### {n + 7}"} for n in range(9)],
    }
    for name, found in rows.items():
        path = folder / "data" / load_catalogue().tasks[name].test[0]
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(found), path)
    return folder


class Ranks(World):
    """One rank of several, alone: it does its share and hears nothing of the others."""

    def gather_objects(self, value):
        return [value]

    def broadcast_object(self, value):
        return value


def evaluate(inputs, out, *pairs, world=None, size=4):
    return chat_eval.run(
        parse_pairs("chat_eval", pairs),
        stage="sft",
        out=out,
        model=inputs / "sft",
        data=inputs / "data",
        world=world or Ranks(0, 0, 1, make_model(16).device),
        device_batch_size=size,
    )


def scores_of(out):
    return {score["task"]: score for score in json.loads((out / "scores.json").read_text())["scores"]}


def records_of(out):
    return pq.read_table(out / "records.parquet").to_pylist()


def test_several_samples_are_scored_by_pass_at_k(inputs, tmp_path, monkeypatch):
    # Random weights hardly ever add up: a reply of an even number of characters counts as right.
    monkeypatch.setattr(Gsm8k, "reward", lambda task, index, text: float(len(text) % 2 == 0))
    pairs = (
        "chat_eval.tasks.word_problems.max_new_tokens=6",
        "chat_eval.tasks.word_problems.samples=5",
        "chat_eval.tasks.word_problems.temperature=1.0",
        "chat_eval.tasks.word_problems.top_k=100",
    )
    manifest = evaluate(inputs, tmp_path / "a", *pairs)
    records, score = records_of(tmp_path / "a"), scores_of(tmp_path / "a")["word_problems"]
    assert len(records) == score["items"] == 9 and {record["samples"] for record in records} == {5}
    for record in records:
        assert len(record["replies"]) == len(record["verdicts"]) == 5
        assert record["right"] == sum(record["verdicts"]) and record["correct"] == record["verdicts"][0]
        assert record["reply"] == record["replies"][0]
    assert any(len(set(record["replies"])) > 1 for record in records)
    assert score["value"] == pytest.approx(sum(record["right"] for record in records) / 45)
    assert list(score["pass_at_k"]) == ["1", "2", "4", "5"]
    for k, found in score["pass_at_k"].items():
        mean = sum(pass_at_k(record["right"], 5, int(k)) for record in records) / 9
        assert found["value"] == pytest.approx(mean) and found["stderr"] > 0
    assert 0 < score["value"] < 1
    assert evaluate(inputs, tmp_path / "b", *pairs).digest == manifest.digest  # same seeds, same replies
    assert evaluate(inputs, tmp_path / "c", *pairs, "chat_eval.seed=1").digest != manifest.digest


@pytest.mark.parametrize(
    ("task", "how", "words"),
    [
        ("gsm8k", {"samples": 4}, "samples = 4 at temperature 0 would be the same answer each time; set its temp"),
        ("gsm8k", {"samples": 4, "temperature": 0}, "samples = 4 at temperature 0"),
        ("mmlu", {"samples": 2, "temperature": 1}, "mmlu.samples = 2: this task is answered by the likeliest letter"),
    ],
)
def test_samples_that_mean_nothing_are_refused(task, how, words):
    with pytest.raises(ConfigError, match=words):
        load_config({"chat_eval": {"tasks": {task: how}}})


def test_samples_by_hand_are_checked_too(inputs, tmp_path):
    with pytest.raises(ConfigError, match="samples = 2 at temperature 0"):
        parse_pairs("chat_eval", ["chat_eval.tasks.facts.samples=2"])
    with pytest.raises(ConfigError, match=r"subjects\.samples = 2"):
        evaluate(inputs, tmp_path / "a", "chat_eval.temperature=1", "chat_eval.tasks.subjects.samples=2")


def test_groups_and_categories(inputs, tmp_path):
    evaluate(inputs, tmp_path / "sft", *TASKS)
    score = scores_of(tmp_path / "sft")["subjects"]
    assert score["subset"] is True and score["available"] == 6 and score["items"] == 5
    records = [record for record in records_of(tmp_path / "sft") if record["task"] == "subjects"]
    by_subject = {}
    for record in records:
        by_subject.setdefault(SUBJECTS[record["item"]], []).append(record["correct"])
    assert {name: entry["items"] for name, entry in score["groups"].items()} == {
        name: len(found) for name, found in by_subject.items()
    }
    stem = [right for name in by_subject if name == "astronomy" for right in by_subject[name]]
    assert score["categories"]["STEM"]["value"] == pytest.approx(sum(stem) / len(stem))
    assert score["categories"]["STEM"]["available"] == 2
    macro = sum(sum(found) / len(found) for found in by_subject.values()) / len(by_subject)
    assert score["macro"]["value"] == pytest.approx(macro) and score["macro"]["groups"] == len(by_subject)
    assert "groups" not in scores_of(tmp_path / "sft")["facts"]
    summary = json.loads((tmp_path / "sft/scores.json").read_text())["summary"]["chat_score"]
    assert summary["subset"] is True and summary["extent"] == "1 of 3 tasks over a part of their items"


def test_every_subject_of_mmlu_has_its_category():
    sizes = {}
    for category in subject_categories().values():
        sizes[category] = sizes.get(category, 0) + 1
    assert sizes == {"STEM": 18, "humanities": 13, "social sciences": 12, "other": 14}


@pytest.mark.shared
def test_the_categories_of_the_real_mmlu(shared_hub):
    task = load_task("mmlu", "test", shared_hub)
    sizes = task.group_sizes()
    assert sum(sizes.values()) == len(task) == 14_042 and len(sizes) == 57
    items = {}
    for subject, count in sizes.items():
        items[task.category(subject)] = items.get(task.category(subject), 0) + count
    assert items == {"STEM": 3018, "humanities": 4705, "social sciences": 3077, "other": 3242}


class Killed(BaseException):
    pass


def interrupted(monkeypatch, inputs, out, after, keep_seconds=0.0):
    """Start an evaluation and end it after so many items."""
    real, seen = Recorder.add, []

    def add(self, finished):
        if len(seen) == after:
            raise Killed
        seen.extend((task, record["item"]) for task, record, _ in finished)
        real(self, finished)

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "KEEP_SECONDS", keep_seconds)
        patch.setattr(Recorder, "add", add)
        with pytest.raises(Killed):
            evaluate(inputs, out, *TASKS)
    return seen


@pytest.mark.parametrize("after", [0, 3, 5, 11, 25])
def test_a_killed_evaluation_goes_on_at_the_item(inputs, tmp_path, monkeypatch, after):
    whole = evaluate(inputs, tmp_path / "whole", *TASKS)
    before = interrupted(monkeypatch, inputs, tmp_path / "sft", after)
    assert not (tmp_path / "sft").exists() and len(before) == after
    later, real = [], Recorder.add
    monkeypatch.setattr(
        Recorder, "add", lambda self, new: later.extend((task, r["item"]) for task, r, _ in new) or real(self, new)
    )
    resumed = evaluate(inputs, tmp_path / "sft", *TASKS)
    assert len(later) == 26 - after and not set(before) & set(later)
    assert resumed.digest == whole.digest
    assert resumed.wall_seconds > 0 and all(score["seconds"] > 0 for score in scores_of(tmp_path / "sft").values())


def test_what_was_finished_when_it_was_interrupted_is_kept(inputs, tmp_path, monkeypatch):
    interrupted(monkeypatch, inputs, tmp_path / "sft", 7, keep_seconds=1e9)  # nothing was due yet
    progress = next((tmp_path / ".progress/sft").glob("*/"))
    assert sum(map(len, ItemLog(progress, 0).finished().values())) == 7


def test_a_kill_between_the_answers_and_the_artifact_asks_nothing_again(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(chat_eval, "write_scores", lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            evaluate(inputs, tmp_path / "sft", *TASKS)
    monkeypatch.setattr(Recorder, "add", lambda *args: pytest.fail("an item was asked again"))
    evaluate(inputs, tmp_path / "sft", *TASKS)
    assert len(records_of(tmp_path / "sft")) == 26


def test_ranks_share_the_items_and_the_log(inputs, tmp_path):
    """Two ranks, one after the other, as a killed launch leaves them; then one finishes with what both did."""
    whole = evaluate(inputs, tmp_path / "whole", *TASKS)
    device = make_model(16).device
    assert evaluate(inputs, tmp_path / "sft", *TASKS, world=Ranks(1, 1, 2, device)) is None
    progress = next((tmp_path / ".progress/sft").glob("*/"))
    done = {task: set(items) for task, items in ItemLog(progress, 0).finished().items()}
    assert sum(map(len, done.values())) == 13
    assert evaluate(inputs, tmp_path / "sft", *TASKS).digest == whole.digest


def test_isolation_is_kept_with_the_item_over_a_kill(inputs, tmp_path, monkeypatch):
    layers = ["namespaces", "seccomp", "rlimits"]
    monkeypatch.setattr(Gsm8k, "isolation", lambda task: tuple(layers))
    interrupted(monkeypatch, inputs, tmp_path / "sft", 20)
    layers.remove("namespaces")  # the kernel of the second start allows less
    evaluate(inputs, tmp_path / "sft", *TASKS)
    scores = scores_of(tmp_path / "sft")
    assert scores["word_problems"]["isolation"] == ["seccomp", "rlimits"] and "isolation" not in scores["facts"]
    found = {tuple(r["isolation"]) for r in records_of(tmp_path / "sft") if r["task"] == "word_problems"}
    assert found == {("seccomp", "rlimits"), ("namespaces", "seccomp", "rlimits")}


def test_what_judging_raises_ends_the_evaluation(inputs, tmp_path, monkeypatch):
    def reward(task, index, text):
        raise OSError("no space left")

    monkeypatch.setattr(Gsm8k, "reward", reward)
    with pytest.raises(OSError, match="no space left"):
        evaluate(inputs, tmp_path / "sft", *TASKS)
    assert not (tmp_path / "sft").exists()


def test_a_score_is_logged_with_what_it_leaves_out(inputs, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        evaluate(inputs, tmp_path / "sft", *TASKS)
    lines = {message.split()[0]: message for message in caplog.messages}
    assert lines["subjects"].endswith("(5 of 6 items)") and lines["facts"].endswith("(12 items)")
    assert lines["chat_score"].endswith("(1 of 3 tasks over a part of their items)")


def test_logits_that_are_no_numbers_are_no_answers(inputs):
    loaded = load_checkpoint(inputs / "sft")
    with torch.no_grad():
        loaded.model.head.weight.fill_(float("nan"))
    task = load_task("subjects", "test", inputs / "data")
    questions = [Question.of(task, 0, loaded.tokenizer)]
    with pytest.raises(ArtifactError, match="logits are not finite"):
        list(by_letter(loaded, questions, 4))
