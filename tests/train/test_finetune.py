import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanochat.artifact import verify
from nanochat.config import (
    FinetuneSettings,
    MidSettings,
    MixtureSettings,
    RlSettings,
    SftSettings,
    load_catalogue,
)
from nanochat.config.stages import MidStage, RlStage, SftStage
from nanochat.data.splits import held_out
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import ArtifactError, DataError
from nanochat.evaluate.tasks import load_task
from nanochat.metrics import read_metrics
from nanochat.runtime import World
from nanochat.train import finetune, reinforce, rollout, sources
from nanochat.train.execution import Execution
from nanochat.train.mixture import VALIDATION_SALT, Mixture, TaskFolders, build

from . import worker

EXECUTION = Execution(device_batch_size=4, checkpoint_steps=1)
ONE = MixtureSettings(epochs=1)


class PowerCutError(Exception):
    """Stands for a kill where the test goes on in the same process."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder with 200 word problems and 100 facts."""
    folder = tmp_path_factory.mktemp("data")
    chance = random.Random(3)
    problems = []
    for number in range(200):
        a, b = chance.randint(1, 9), chance.randint(1, 9)
        problems.append(
            {"question": f"No {number}: {a}+{b}?", "answer": f"{a}+{b}=<<{a}+{b}={a + b}>>{a + b}\n#### {a + b}"}
        )
    facts = [
        {"question": f"Where is No {number}?", "answer": f"In {chance.choice(('Bree', 'Deal'))}."}
        for number in range(100)
    ]
    for name, rows in (("word_problems", problems), ("facts", facts)):
        path = folder / load_catalogue().tasks[name].train[0]
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
    return folder


@pytest.fixture(scope="module")
def base(tiny_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "base"
    worker.run(tiny_data, out)
    return out


def mid_settings(**changes):
    mixture = {"word_problems": MixtureSettings(epochs=1.5), "facts": MixtureSettings(max_items=40)}
    values = {"mixture": mixture, "steps": 6, "total_batch_size": 512, "eval_every": 3, "val_fraction": 0.1}
    return MidStage(mid=MidSettings(**(values | changes)))


def tune(stage, settings, out, init, data):
    with World.open("cpu") as world:
        return finetune.run(stage, settings, out=out, init=init, data=data, execution=EXECUTION, world=world)


def test_the_mixture_is_what_the_settings_say(base, data):
    settings = mid_settings().mid
    tokenizer = Tokenizer.load(base)
    mixture = build(settings, TaskFolders(data), tokenizer)
    trained, kept = (mixture.parts[f"{part}/word_problems"][1] for part in ("train", "validation"))
    assert trained + kept == 200
    task = load_task("word_problems", "train", data)
    assert kept == sum(held_out(task.key(index), 0.1, VALIDATION_SALT) for index in range(200)) > 0
    conversations = mixture.training(settings, seed=1)
    assert len(conversations) == trained + round(0.5 * trained) + 40
    texts = [tokenizer.decode(ids) for ids, _ in conversations]
    held = [tokenizer.decode(ids) for ids, _ in mixture.validation()["word_problems"]]
    assert not set(texts) & set(held)
    ids, mask = conversations[0]
    assert "".join(tokenizer.decode([t]) for t, m in zip(ids, mask, strict=True) if m).endswith("<|assistant_end|>")


def test_weights_are_shares_of_the_tokens_and_epochs_the_most_a_task_is_seen(base, data):
    mixture = {"word_problems": MixtureSettings(weight=3, epochs=2), "facts": MixtureSettings(weight=1)}
    settings = mid_settings(mixture=mixture).mid
    made = build(settings, TaskFolders(data), Tokenizer.load(base))
    passes = made.passes(settings)
    assert max(passes["word_problems"] / 2, passes["facts"]) == pytest.approx(1)
    chosen = made.training(settings, seed=1)
    first, count = made.parts["train/facts"]
    facts = {made.ids[made.offsets[n] : made.offsets[n + 1]].tobytes() for n in range(first, first + count)}
    tokens = [sum(len(ids) for ids, _ in chosen if (ids.tobytes() in facts) == which) for which in (False, True)]
    assert tokens[0] / tokens[1] == pytest.approx(3, rel=0.03)
    with pytest.raises(ValueError, match="facts has no weight"):
        mid_settings(mixture={"word_problems": MixtureSettings(weight=3), "facts": MixtureSettings()})


def test_own_conversations_are_a_task_like_the_others(base, data, tmp_path):
    folder = tmp_path / "own" / "mine"
    folder.mkdir(parents=True)
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    lines = [json.dumps({"messages": [{**talk[0], "content": f"Hi {n}"}, talk[1]]}) for n in range(60)]
    (folder / "conversations.jsonl").write_text("\n".join(lines) + "\n")
    settings = mid_settings(mixture={"mine": MixtureSettings(epochs=2), "facts": MixtureSettings(max_items=5)})
    with World.open("cpu") as world:
        manifest = finetune.run(
            "mid",
            settings,
            out=tmp_path / "mid",
            init=base,
            data=data,
            own_data=tmp_path / "own",
            execution=EXECUTION,
            world=world,
        )
    assert sum(manifest.metrics["conversations"][f"{part}/mine"] for part in ("train", "validation")) == 60
    assert "own/mine/conversations.jsonl" in manifest.inputs
    assert manifest.metrics["passes"] == {"mine": 2.0, "facts": 1.0}
    with pytest.raises(DataError, match="task mine is not in the catalogue"):
        tune("mid", settings, tmp_path / "other", base, data)


def test_the_mixture_survives_its_file(base, data, tmp_path):
    mixture = build(mid_settings().mid, TaskFolders(data), Tokenizer.load(base))
    mixture.save(tmp_path / "conversations.npz")
    again = Mixture.load(tmp_path / "conversations.npz")
    assert (again.parts, again.shown) == (mixture.parts, mixture.shown)
    assert np.array_equal(again.ids, mixture.ids)
    assert np.array_equal(again.mask, mixture.mask)


def test_an_empty_mixture_is_refused(base, data):
    with pytest.raises(DataError, match="empty"):
        build(FinetuneSettings(), TaskFolders(data), Tokenizer.load(base))


def test_mid_then_sft_learn_and_hand_over(base, data, tmp_path):
    mid = tune("mid", mid_settings(), tmp_path / "mid", base, data)
    verify(tmp_path / "mid")
    assert mid.metrics["val_bpb"] < mid.metrics["initial_val_bpb"]
    assert set(mid.metrics["val_loss_by_task"]) == {"word_problems", "facts"}
    assert mid.metrics["optimizer_steps"] == 8 + 6
    assert mid.inputs["init"] == verify(base).digest
    settings = SftStage(sft=SftSettings(mixture={"facts": ONE}, steps=3, total_batch_size=256, val_fraction=0.1))
    sft = tune("sft", settings, tmp_path / "sft", tmp_path / "mid", data)
    assert sft.metrics["base_plan"] == verify(base).metrics["plan"]
    assert "**facts**" in (tmp_path / "sft" / "samples.md").read_text()
    fresh = settings.sft.model_copy(update={"keep_optimizer": False})
    other = tune("sft", SftStage(sft=fresh), tmp_path / "fresh", tmp_path / "mid", data)
    assert other.metrics["optimizer_steps"] == 3
    with pytest.raises(ArtifactError, match="expected base"):
        tune("mid", mid_settings(), tmp_path / "wrong", tmp_path / "sft", data)


def test_interrupted_midtraining_ends_with_the_same_weights(base, data, tmp_path, monkeypatch):
    whole = tune("mid", mid_settings(), tmp_path / "whole" / "mid", base, data)
    read = sources.RowSteps.read

    def failing(self, step):
        if step == 4:
            raise PowerCutError
        return read(self, step)

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(sources.RowSteps, "read", failing)
        tune("mid", mid_settings(), tmp_path / "cut" / "mid", base, data)
    assert tune("mid", mid_settings(), tmp_path / "cut" / "mid", base, data).digest == whole.digest


RL = RlStage(
    rl=RlSettings(
        task="word_problems",
        steps=3,
        prompts_per_step=4,
        samples_per_prompt=3,
        max_new_tokens=16,
        eval_every=2,
        eval_items=5,
        val_fraction=0.1,
        drop_uniform_groups=False,
        lr_scale=0.2,
    )
)


@pytest.fixture(scope="module")
def chat(base, data, tmp_path_factory):
    """A model that has seen enough problems to end its answers."""
    out = tmp_path_factory.mktemp("chat") / "sft"
    settings = SftSettings(mixture={"word_problems": ONE}, steps=20, total_batch_size=1024, val_fraction=0.1)
    tune("sft", SftStage(sft=settings), out, base, data)
    return out


def learn(out, chat, data):
    with World.open("cpu") as world:
        return reinforce.run(RL, out=out, init=chat, data=data, execution=EXECUTION, world=world)


def test_rl_logs_what_happens_and_resumes_exactly(chat, data, tmp_path, monkeypatch):
    # Parity of the sum decides, so that groups are mixed before the model can calculate.
    def judge(self, indices, texts):
        return [float(len(text) % 2) for text in texts]

    monkeypatch.setattr("nanochat.evaluate.tasks.gsm8k.Gsm8k.rewards", judge)
    whole = learn(tmp_path / "whole" / "rl", chat, data)
    assert verify(tmp_path / "whole" / "rl").digest != verify(chat).digest
    rows = read_metrics(tmp_path / "whole" / "rl" / "metrics.jsonl")
    logged = {"reward", "response_tokens", "entropy", "seconds_rollout", "seconds_reward", "seconds_update"}
    assert all(logged <= row.keys() for row in rows if "loss" in row)
    assert [row["step"] for row in rows if "pass_at_1" in row] == [0, 2, 3]
    assert whole.metrics["validation_problems"] == 5
    assert {"pass_at_1", "initial_pass_at_1"} <= whole.metrics.keys()

    read = rollout.RolloutSource.read

    def failing(self, step):
        if step == 2:
            raise PowerCutError
        return read(self, step)

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(rollout.RolloutSource, "read", failing)
        learn(tmp_path / "cut" / "rl", chat, data)
    assert learn(tmp_path / "cut" / "rl", chat, data).digest == whole.digest


def test_rl_makes_rewarded_answers_likelier(chat, data, tmp_path, monkeypatch):
    """Short answers are rewarded; the model has to learn that from its own samples."""

    def judge(self, indices, texts):
        return [float(len(text) < 8) for text in texts]

    monkeypatch.setattr("nanochat.evaluate.tasks.gsm8k.Gsm8k.rewards", judge)
    settings = RL.rl.model_copy(update={"steps": 12, "prompts_per_step": 8, "samples_per_prompt": 8, "lr_scale": 0.5})
    with World.open("cpu") as world:
        stage = RlStage(rl=settings)
        reinforce.run(stage, out=tmp_path / "rl", init=chat, data=data, execution=EXECUTION, world=world)
    rewards = [row["reward"] for row in read_metrics(tmp_path / "rl" / "metrics.jsonl") if "reward" in row]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.1, rewards
