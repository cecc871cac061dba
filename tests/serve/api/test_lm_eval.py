"""A second real client: lm-evaluation-harness scores our models through the API as our own engine does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nanochat.data.tokenizer import TOKENIZER_FILE
from nanochat.export.tokenizer import exported_tokenizer, tokenizer_config
from nanochat.infer.sampling import SamplingParams
from nanochat.infer.scoring import Span, span_losses
from tests.serve.conftest import CONTEXT

for name in ("lm_eval", "transformers", "aiohttp", "tenacity", "requests"):
    pytest.importorskip(name, reason=f"lm-evaluation-harness asks with {name}; not installed")

CHOICES = [
    {"context": "Once upon a", "choices": [" time", " cat", " time there was"], "gold": 0},
    {"context": "there was a", "choices": [" Noël", " cat.", " script"], "gold": 1},
    {"context": "Déjà vu", "choices": [" ✓", " a", " 42"], "gold": 2},
]
STORIES = ["Once upon a time there was a cat.", "A cat was there."]
WRITING = ["Once upon", "Once upon a time"]


def write_tasks(folder: Path) -> None:
    """Three tasks: one chooses, one judges whole texts, one writes."""

    def task(name, rows, **options):
        lines = folder / f"{name}.jsonl"
        lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
        told = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(lines)}},
            "test_split": "test",
            "target_delimiter": "",
            "metadata": {"version": 1},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(told | options))

    task(
        "choices",
        CHOICES,
        output_type="multiple_choice",
        doc_to_text="{{context}}",
        doc_to_choice="{{choices}}",
        doc_to_target="gold",
        metric_list=[{"metric": "acc"}],
    )
    task(
        "stories",
        [{"text": text} for text in STORIES],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": "word_perplexity"}],
    )
    task(
        "writing",
        [{"text": text} for text in WRITING],
        output_type="generate_until",
        doc_to_text="{{text}}",
        doc_to_target="cat",
        generation_kwargs={"until": ["cat"], "max_gen_toks": 20, "temperature": 0},
        metric_list=[{"metric": "exact_match"}],
    )


@pytest.fixture(scope="module")
def said(api, chat_run, tmp_path_factory):
    """What the harness says of the base model, asking with token ids and with texts."""
    folder = tmp_path_factory.mktemp("harness")
    write_tasks(folder)
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    content = (chat_run / "base" / TOKENIZER_FILE).read_text(encoding="utf-8")
    (tokenizer / TOKENIZER_FILE).write_text(exported_tokenizer(content), encoding="utf-8")
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(CONTEXT, chats=False)))
    arguments = {
        "model": "heart/base",
        "base_url": f"{api.url}/v1/completions",
        "tokenizer": str(tokenizer),
        "tokenizer_backend": "huggingface",
        "max_length": CONTEXT,
    }
    tasks = ["choices", "writing"]
    models = {
        "ids": [arguments | {"add_bos_token": True}, tasks],
        "many ids": [arguments | {"add_bos_token": True, "batch_size": 3}, tasks],
        "texts": [arguments | {"tokenized_requests": False}, tasks],
        "texts at once": [arguments | {"tokenized_requests": False, "num_concurrent": 4}, tasks],
        "whole": [arguments, ["stories"]],  # of whole texts, the harness itself puts <|bos|> first
    }
    out = folder / "said.json"
    keep = ("PATH", "OMP_NUM_THREADS", "LANG")
    environment = {name: os.environ[name] for name in keep if name in os.environ} | {
        "HOME": str(folder),  # nothing is read from or left in the user's caches
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    worker = Path(__file__).with_name("lm_eval_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), json.dumps(models), str(out)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("way", ["ids", "many ids", "texts", "texts at once"])
def test_it_scores_as_our_engine_does(said, api, way):
    model = api.serving.registry.get("heart/base")
    tokenizer = model.tokenizer

    def losses(context, continuations):
        """As the harness cuts context and continuation apart."""
        start = 1 + len(tokenizer.encode(context))
        spans = [Span((tokenizer.bos, *tokenizer.encode(context + text)), start) for text in continuations]
        return span_losses(model.loaded.model, spans, 1)

    picks = []
    for item, sample in zip(CHOICES, said[way]["choices"], strict=True):
        own = losses(item["context"], item["choices"])
        assert [tuple(one) for one in sample["asked"]] == [(item["context"], choice) for choice in item["choices"]]
        assert [-total for total, _ in sample["answers"]] == pytest.approx([loss.total for loss in own], abs=1e-3)
        assert [greedy for _, greedy in sample["answers"]] == [loss.greedy for loss in own]
        picks.append(min(range(3), key=lambda option: own[option].total) == item["gold"])
    assert said[way]["scores"]["choices"]["acc,none"] == pytest.approx(sum(picks) / len(picks))
    assert any(greedy for sample in said[way]["choices"] for _, greedy in sample["answers"])
    for text, sample in zip(WRITING, said[way]["writing"], strict=True):
        (done,) = model.engine.generate([model.text_prompt(text)], SamplingParams(max_tokens=20, temperature=0))
        assert sample["answers"] == [tokenizer.decode(done.ids).partition("cat")[0]]


def test_it_judges_whole_texts(said, api):
    model = api.serving.registry.get("heart/base")
    for text, sample in zip(STORIES, said["whole"]["stories"], strict=True):
        span = Span((model.tokenizer.bos, *model.tokenizer.encode(text)), 1)
        (own,) = span_losses(model.loaded.model, [span], 1)
        assert -sample["answers"][0] == pytest.approx(own.total, abs=1e-3)
