"""The stage: what it writes, what its card says, what it refuses."""

import json
import re

import pytest
import yaml

from nanochat.artifact import read_manifest, verify
from nanochat.config import Layout, load_config, pairs_of, parse_pairs
from nanochat.errors import ArtifactError, ConfigError
from nanochat.export.export import run
from nanochat.export.weights import exported_config
from nanochat.model.config import GPTConfig
from tests.export.conftest import checkpoint, evaluation, export, make_run
from tests.infer.fixtures import make_model, make_tokenizer


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    make_run(folder, "classic", make_tokenizer())
    return folder


def test_the_card_tells_what_the_manifests_say(exports):
    made = exports("modern")
    card = (made.folder / "README.md").read_text()
    total = read_manifest(made.run / "sft").metrics["parameters"]["total"]
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    for expected in (
        "# tiny-modern-sft",
        f"{total / 1000:.1f} K parameters in float32; modern form; 3 layers of width 32, ",
        "4 heads (2 for keys and values) of 8; vocabulary 512; ",
        "context 128 tokens",
        "| base | 7 | 12.3 K | 1.50e9 | 1 min 1 s | 2 cores of an old one |",
        "| gsm8k | checked answer | 0.125 ± 0.023 | 0.00 | 200 of 1,319 |",
        "ChatCORE 0.125 ± 0.023 (at most 200 items each).",
        "CORE 0.125 ± 0.023 (1 task, none of CORE's 22, at most 200 items each).",
        "| base | climbmix | CC-BY-NC-4.0 by its source",
        "| sft | gsm8k | MIT |",
        "| sft | my_own | the user's own data",
        "trust_remote_code=True",
    ):
        assert expected in card
    assert "{{" not in card and "{%" not in card and "None" not in card


def test_the_code_on_the_card_runs(exports, load, capsys):
    made = exports("classic")
    code = re.search(r"```python\n(.*?)```", (made.folder / "README.md").read_text(), re.DOTALL)[1]
    exec(
        code.replace("path/to/this/folder", str(made.folder)).replace("(**inputs)", "(**inputs, max_new_tokens=4)"), {}
    )
    assert capsys.readouterr().out.strip()


def test_what_was_not_run_says_so(folder):
    out = folder / "export" / "sft"
    run(parse_pairs("export", ["export.name=Ada"]), out=out, model=folder / "sft")
    card = (out / "README.md").read_text()
    assert "# Ada\n" in card
    assert "This checkpoint has not been evaluated." in card
    assert "The stages before these are not at hand" in card


def test_a_base_model_has_no_chat_template(folder, load):
    out = export(folder, "base")
    assert not (out / "chat_template.jinja").exists()
    bos = make_tokenizer().bos
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [bos]
    assert "does not answer messages" in (out / "README.md").read_text()
    model, tokenizer = load(out)
    assert tokenizer.eos_token_id == model.config.eos_token_id == bos


def test_greedy_chats_export_as_greedy(folder):
    out = folder / "export" / "sft"
    run(parse_pairs("export", ["chat.temperature=0", "chat.top_k=null"]), out=out, model=folder / "sft")
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["do_sample"] is False and "temperature" not in generation


def test_an_export_with_a_file_of_ones_own_is_not_overwritten(folder):
    out = export(folder)
    (out / "LICENSE").write_text("mine")
    with pytest.raises(ArtifactError, match=r"not an unchanged export \(LICENSE was added\)"):
        export(folder)
    assert (out / "LICENSE").read_text() == "mine"


def test_equal_exports_are_equal_and_a_changed_one_is_not_overwritten(folder):
    out = export(folder)
    digest = verify(out).digest
    assert export(folder) == out and verify(out).digest == digest
    (out / "README.md").unlink()  # a link to the copy that is kept in the in-progress folder
    (out / "README.md").write_text("my own words")
    with pytest.raises(ArtifactError, match=r"not an unchanged export .*README.md.*move it away"):
        export(folder)
    assert (out / "README.md").read_text() == "my own words"
    with pytest.raises(ArtifactError, match="not an unchanged export"):
        export(folder, out=folder / "sft")
    assert verify(folder / "sft").stage == "sft"


def test_what_does_not_belong_together_is_refused(folder, tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no manifest\.json"):
        export(folder, "rl")
    settings = parse_pairs("export", [])
    other = tmp_path / "other"
    checkpoint(other, "base", make_model(512, "classic", 5), make_tokenizer(), load_config({}).report, {})
    out = tmp_path / "run" / "export" / "sft"
    with pytest.raises(ArtifactError, match=r"other is not what .*sft was trained from"):
        run(settings, out=out, model=folder / "sft", earlier=[other])
    evaluation(tmp_path / "scores", "base_eval", other)
    with pytest.raises(ArtifactError, match="evaluates another checkpoint"):
        run(settings, out=out, model=folder / "sft", earlier=[folder / "base"], evaluations=[tmp_path / "scores"])
    (folder / "eval" / "sft" / "scores.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"scores.json is damaged"):
        run(settings, out=out, model=folder / "sft", evaluations=[folder / "eval" / "sft"])
    assert not out.exists()


def test_a_shape_without_counterpart_is_refused():
    shape = GPTConfig(
        arch="classic", depth=4, width=32, heads=4, kv_heads=4, head_dim=8, vocab_size=300, sequence_length=64
    )
    exported_config(shape, dtype="float32", bos=0, eos=1)
    with pytest.raises(ArtifactError, match="NanoChat has no windows"):
        exported_config(shape.model_copy(update={"window_pattern": "SL"}), dtype="float32", bos=0, eos=1)


def test_the_last_chat_stage_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stage_of(**config):
        return Layout(load_config({"run": "r", **config}), 0).export_stage

    rl = {"task": "word_problems"}
    assert stage_of(rl=rl) == "rl"
    (tmp_path / "results/r/base").mkdir(parents=True)
    (tmp_path / "results/r/mid").mkdir()
    assert stage_of(rl=rl) == "mid"
    assert stage_of(rl=rl, export={"stage": "base"}) == "base"
    with pytest.raises(ConfigError, match=r"export.stage = rl"):
        stage_of(rl={"enabled": False}, export={"stage": "rl"})


def test_only_what_changes_the_folder_reruns_it():
    def pairs(**config):
        return pairs_of(load_config(config), "export")

    assert pairs(chat={"port": 1}) == pairs(export={"stage": "mid"}) == pairs()
    assert pairs(export={"dtype": "bfloat16"}) != pairs() != pairs(chat={"temperature": 0.1})
