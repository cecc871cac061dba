"""The real path on real data over HTTP, at toy size: it runs to a complete report, whatever the mirror does."""

import json
import re

import pytest

from nanochat.artifact import verify
from tests.conftest import REPOSITORY, Workflow
from tests.data.hub_server import Faults, HubServer

SMALLER = (
    "--config",
    "base={steps: 12, total_batch_size: 2048, eval_tokens: 8192}",
    "mid={steps: 6, total_batch_size: 2048, eval_tokens: 8192}",
    "sft={steps: 6, total_batch_size: 2048, eval_tokens: 8192}",
    "rl={steps: 2, max_new_tokens: 32, eval_items: 4}",
    "base_eval={max_items: 5, bpb_tokens: 8192}",
    "chat_eval={tasks: {arc_easy: {max_items: 12}, arc_challenge: {max_items: 12}, mmlu: {max_items: 12},"
    " gsm8k: {max_items: 4, max_new_tokens: 32}, humaneval: {max_items: 4, max_new_tokens: 32},"
    " spelling_bee: {max_items: 4, max_new_tokens: 32}}}",
    "tokenizer={vocab_size: 1024, max_chars: 3000000}",
    "data={train_shards: 1}",
    "wandb={mode: disabled}",
)


@pytest.mark.shared
def test_real_data_runs_to_a_complete_report(shared_hub, tmp_path):
    workflow = Workflow(tmp_path)
    # A mirror on a bad day: cut connections, refusals, wrong bytes.
    faults = Faults(rates={"cut": 0.1, "wrong": 0.05, "429": 0.02, "503": 0.02}, seed=1)
    with HubServer(shared_hub, faults) as server:
        data = f"data={{source: '{server.address}', train_shards: 1}}"
        arguments = [data if argument.startswith("data=") else argument for argument in SMALLER]
        workflow.run("--cores", "2", *arguments, configfile=REPOSITORY / "config" / "hub-cpu.yaml")
        assert server.happened
        fetched = dict(server.sent)
        again = workflow.run("-n", "--cores", "2", *arguments, configfile=REPOSITORY / "config" / "hub-cpu.yaml")
        assert "Nothing to be done" in again.stdout
        more = [a.replace("train_shards: 1", "train_shards: 2") for a in arguments]
        planned = workflow.run("-n", "--cores", "2", *more, configfile=REPOSITORY / "config" / "hub-cpu.yaml").stdout
        assert re.search(r"^shards +1$", planned, re.M) and not re.search(r"^(bundle|dataset) ", planned, re.M), planned
        assert server.sent == fetched
    run = tmp_path / "results" / "hub-cpu"
    for name in (
        "tokenizer",
        "base",
        "mid",
        "sft",
        "rl",
        "eval/tokenizer",
        "eval/base",
        "eval/mid",
        "eval/sft",
        "eval/rl",
    ):
        verify(run / name)
    scores = json.loads((run / "eval" / "sft" / "scores.json").read_text())["scores"]
    assert {score["task"] for score in scores} == {
        "arc_easy",
        "arc_challenge",
        "mmlu",
        "gsm8k",
        "humaneval",
        "spelling_bee",
    }
    assert all(score["items"] < score["available"] and score["stderr"] is not None for score in scores)
    core = json.loads((run / "eval" / "base" / "scores.json").read_text())["scores"]
    assert len(core) == 12
    report = (tmp_path / "report.md").read_text()
    for word in ("ChatCORE", "CORE", "gsm8k", "12 of 14,042", "lambada_openai"):
        assert word in report, word
