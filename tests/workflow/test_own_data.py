"""The user's own text, conversations and persona through the real DAG."""

import json
import re

import pytest

from nanochat.artifact import read_manifest, verify
from tests.conftest import REPOSITORY, Workflow

TARGETS = ("results/smoke/sft", "results/smoke/eval/base")
SMALLER = {stage: "{steps: 6, eval_every: 6, eval_tokens: 1024}" for stage in ("base", "mid")}


def line(question: str, answer: str) -> str:
    talk = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": talk}) + "\n"


def planned(workflow: Workflow, *arguments: str) -> dict[str, int]:
    """Rule → number of jobs that a dry run lists."""
    output = workflow.run("-n", *arguments).stdout
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", output, re.M) if name != "total"}


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    workflow = Workflow(folder)
    notes = folder / "my notes"
    notes.mkdir()
    for number in range(40):
        text = f"# Note {number}\n\nThe lighthouse keeper wrote {number} letters.\n"
        (notes / f"note {number}.md").write_text(text * 30)
    (notes / "draft (1) [2] 'x'.md").write_text("Brackets and quotes in a name are like letters.\n")
    (folder / "chats.jsonl").write_text("".join(line(f"Order {n}?", "Sent.") for n in range(50)))
    arguments = (
        "--cores",
        "2",
        "--config",
        "own={text: {files: ['my notes']}, conversations: {chats: chats.jsonl},"
        f" persona: {{file: '{REPOSITORY}/config/own-example/persona.yaml', conversations: 60}}}}",
        "data={mixture: {world: {weight: 3}, own: {weight: 1}}}",
        "sft={mixture: {chats: {epochs: 2}, persona: {}, identity: null}, steps: 6, eval_every: 6, eval_tokens: 1024}",
        "base_eval={max_items: 2, bpb_tokens: 1024}",
        *(f"{stage}={values}" for stage, values in SMALLER.items()),
    )
    workflow.run(*TARGETS, *arguments)
    return workflow, arguments


def test_everything_of_ones_own_is_trained_on(own_run):
    workflow, _ = own_run
    run = workflow.folder / "results" / "smoke"
    base = read_manifest(run / "base", "base")
    assert set(base.metrics["epochs_by_corpus"]) == {"world", "own"}
    assert {"val_bpb", "val_bpb_world", "val_bpb_own"} <= base.metrics.keys()
    assert set(read_manifest(run / "eval" / "base").metrics["bpb"]) >= {"val", "val_own", "val_world", "unigram"}
    sft = verify(run / "sft")
    assert sft.metrics["passes"]["chats"] == 2.0
    counts = sft.metrics["conversations"]
    assert counts["train/chats"] + counts["validation/chats"] == 50
    assert counts["train/persona"] + counts["validation/persona"] == 60
    assert "train/identity" not in counts
    lines = (run / "own" / "persona" / "conversations.jsonl").read_text().splitlines()
    assert len(lines) == 60


def test_nothing_is_made_again_without_need_and_all_that_follows_from_a_change(own_run):
    workflow, arguments = own_run
    assert "Nothing to be done" in workflow.run("-n", *TARGETS, *arguments).stdout
    with (workflow.folder / "chats.jsonl").open("a") as file:
        file.write(line("New?", "Yes."))
    jobs = planned(workflow, *TARGETS, *arguments)
    assert jobs.keys() == {"own_conversations", "sft"}
    (workflow.folder / "my notes" / "note 1.md").write_text("Another note altogether.")
    jobs = planned(workflow, *TARGETS, *arguments)
    assert {"own_text", "shards", "tokenizer", "tokens", "base", "mid", "sft", "base_eval"} <= jobs.keys()
    assert jobs["shards"] == 2  # not those of the world


def test_wrong_conversations_stop_before_anything_is_trained(tmp_path):
    (tmp_path / "bad.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "Hi"}]}\n[{"role": "judge"}]\n{"a"\n'
    )
    workflow = Workflow(tmp_path)
    own = "own={conversations: {bad: bad.jsonl}}"
    done = workflow.run(
        "results/smoke/own/bad", "--cores", "1", "--config", own, "sft={mixture: {bad: {}}}", check=False
    )
    assert done.returncode != 0
    assert "bad.jsonl" in done.stdout and re.search(r"bad\.jsonl(:| line )2", done.stdout), done.stdout[-2000:]
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "results" / "smoke" / "own" / "bad").exists()
