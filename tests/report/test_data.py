"""The section Data: counts as the manifests have them, and no number where they have none."""

import json
import re

import pytest

from nanochat.artifact import Manifest
from nanochat.config.stages import ReportStage
from nanochat.report import data
from nanochat.report.collect import collect
from nanochat.report.report import run


def add_shard(folder, number, corpus="abc", **metrics):
    """A token folder of the run."""
    place = f"data/world/tokens/{corpus}/shard_{number:05d}"
    inputs = {"tokenizer": folder.folder / "tokenizer"}
    folder.write(place, "tokens", {"tokens.bin": f"{number}"}, inputs, metrics=metrics)
    folder.tokens.append(folder.root / place)


def add_source(folder, name, **metrics):
    """A folder that was made of the user's own data."""
    place = f"data/own/{name}"
    folder.write(place, "tokens", {"file": name}, metrics=metrics)
    path = folder.root / place
    manifest = json.loads((path / "manifest.json").read_text()) | {"stage": f"own_{name}"}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def pretrained(folder):
    folder.tokenizer()
    good = {
        "documents": 1_000,
        "tokens": 250_000,
        "bytes": 1_000_000,
        "skipped": {"null": 0, "empty": 0},
        "problems": [],
    }
    problems = [{"row": 7, "reason": "null"}, {"row": 1_234, "reason": "not_utf8"}]
    add_shard(folder, 0, **good)
    add_shard(folder, 1, **good | {"documents": 900, "skipped": {"null": 1, "not_utf8": 1}, "problems": problems})
    add_shard(folder, 6542, **good | {"documents": 55})
    folder.base()


def edit(folder, place, **metrics):
    """Change metrics of a manifest; None takes one away."""
    path = folder.folder / place / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"] |= metrics
    manifest["metrics"] = {name: value for name, value in manifest["metrics"].items() if value is not None}
    path.write_text(json.dumps(manifest))


def read(folder, *sources):
    return collect(folder.folder, folder.tokens, sources)


def rows(table):
    """First cell of each row → column → cell."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    header, _, *body = lines
    return {line[0]: dict(zip(header, line, strict=True)) for line in body}


def section(folder, *sources):
    out = folder.folder / "report.md"
    figures = folder.folder / "figures"
    run(
        ReportStage(),
        out=out,
        figures=figures,
        run_folder=folder.folder,
        token_folders=folder.tokens,
        sources=sources,
        command="snakemake report.md",
    )
    text = out.read_text()
    return re.split(r"^## ", text[text.index("\n## Data") :], maxsplit=2, flags=re.MULTILINE)[1], text


def test_each_shard_says_what_it_holds_and_what_was_left_out(run_folder):
    pretrained(run_folder)
    table = rows(data.shards(read(run_folder)))
    assert table["shard_00001"] == {
        "Shard": "shard_00001",
        "Used for": "training",
        "Documents": "900",
        "Tokens": "250,000",
        "Text": "1 MB",
        "Bytes per token": "4.00",
        "Left out": "1 null, 1 not UTF-8",
    }
    assert table["shard_06542"]["Used for"] == "validation"
    assert table["shard_00000"]["Left out"] == "none"
    assert (table["**all**"]["Documents"], table["**all**"]["Left out"]) == ("1,955", "1 null, 1 not UTF-8")


def test_what_was_left_out_is_named_with_file_and_row(run_folder):
    pretrained(run_folder)
    assert data.places(read(run_folder)) == [
        "`shard_00001.parquet`, row 7: null",
        "`shard_00001.parquet`, row 1,234: not UTF-8",
    ]
    text, whole = section(run_folder)
    assert "- `shard_00001.parquet`, row 1,234: not UTF-8\n" in text
    assert "Documents left out of the token files: 1 null, 1 not UTF-8" in whole[whole.index("## Skipped or capped") :]


def test_only_the_first_places_are_listed_and_the_others_counted(run_folder):
    run_folder.tokenizer()
    problems = [{"row": row, "reason": "empty"} for row in range(1, 21)]
    add_shard(run_folder, 0, skipped={"empty": 500}, problems=problems)
    add_shard(run_folder, 1, skipped={"empty": 2}, problems=problems[:2])
    listed = data.places(read(run_folder))
    assert len(listed) == 21
    assert listed[-1] == "and 482 more"
    for folder in run_folder.tokens:
        path = folder / "manifest.json"
        path.write_text(re.sub(r'"problems": \[[^]]*\]', '"problems": []', path.read_text()))
    assert data.places(read(run_folder)) == ["502 documents whose rows are not recorded"]


def test_many_shards_are_shown_in_sums(run_folder):
    run_folder.tokenizer()
    for number in range(15):
        add_shard(run_folder, number, documents=10, tokens=100, bytes=400, skipped={"null": number % 2})
    run_folder.base()
    table = rows(data.shards(read(run_folder)))
    assert list(table) == ["14 shards", "1 shard", "**all**"]
    assert table["14 shards"]["Documents"] == "140"
    assert table["**all**"]["Left out"] == "7 null"


def test_corpora_are_kept_apart(run_folder):
    run_folder.tokenizer()
    counts = {"tokens": 100, "bytes": 400, "skipped": {"null": 1}, "problems": [{"row": 5, "reason": "null"}]}
    for corpus, number in (("web", 2), ("medieval", 1), ("web", 0)):  # "val" is in the name
        add_shard(run_folder, number, corpus, documents=10 * number, **counts)
    run_folder.base()
    edit(run_folder, "base", epochs=1.0, epochs_by_corpus={"web": 0.214, "medieval": 3.0})
    found = read(run_folder)
    table = rows(data.shards(found))
    assert list(table) == ["web/shard_00002", "medieval/shard_00001", "web/shard_00000", "**all**"]
    assert [row["Used for"] for row in table.values()] == ["training", "training", "validation", "–"]
    assert rows(data.seen(found))["base"]["Epochs"] == "web 0.21, medieval 3.00"
    assert data.places(found)[1] == "`medieval/shard_00001.parquet`, row 5: null"
    for number in range(3, 15):
        add_shard(run_folder, number, "web", documents=1, **counts)
    run_folder.base()
    table = rows(data.shards(read(run_folder)))
    assert list(table) == ["web: 13 shards", "medieval: 1 shard", "web: 1 shard", "**all**"]
    assert table["web: 13 shards"]["Documents"] == "31"  # 20, 0 and eleven


def test_what_a_stage_has_seen(run_folder):
    pretrained(run_folder)
    edit(run_folder, "tokenizer", documents=1_500, characters=2_000_000, skipped={"null": 1, "empty": 0})
    edit(run_folder, "base", epochs=4.915)
    for stage, before in (("mid", "base"), ("sft", "mid")):
        run_folder.finetune(stage, before, "Hello.")
    edit(
        run_folder,
        "mid",
        conversations={"train/choice": 3_000, "validation/choice": 40, "train/word_problems": 500},
        conversations_cut=12,
        conversations_dropped=3,
        padding=0.0042,
        epochs=1.0,
        passes={"choice": 1.0, "word_problems": 0.374},
    )
    run_folder.rl()
    edit(run_folder, "rl", problems=480, validation_problems=20)
    found = read(run_folder)
    table = rows(data.seen(found))
    assert table["tokenizer"] | {"Data": "1,500 documents (2 M characters)", "Left out": "1 null"} == table["tokenizer"]
    assert table["base"] == {
        "Stage": "base",
        "Data": "1,900 documents (500 K tokens)",
        "Left out": "1 null, 1 not UTF-8",
        "Held out": "55",
        "Tokens seen": "2.46 M",
        "Epochs": "4.92",
        "Cut": "–",
        "Padding": "–",
    }
    assert table["mid"] == {
        "Stage": "mid",
        "Data": "3,500 conversations",
        "Left out": "3 nothing to learn",
        "Held out": "40",
        "Tokens seen": "614 K",
        "Epochs": "1.00",
        "Cut": "12",
        "Padding": "0.42 %",
    }
    assert (table["rl"]["Data"], table["rl"]["Held out"]) == ("480 problems", "20")
    mixture = rows(data.mixture(found))
    assert mixture["choice"]["In mid"] == "3,000 conversations"
    assert mixture["word_problems"]["Passes in mid"] == "0.374"  # the config's 2 is only the cap
    assert mixture["choice"]["Passes in mid"] == "1 × at most 3,000 items"
    assert mixture["word_problems"]["Passes in sft"] == "not recorded"
    assert mixture["choice"]["In sft"] == "not recorded"


@pytest.mark.parametrize("missing", ["documents", "tokens", "bytes", "skipped"])
def test_a_number_that_is_missing_somewhere_is_not_summed(run_folder, missing):
    pretrained(run_folder)
    path = run_folder.tokens[0] / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["metrics"][missing]
    path.write_text(json.dumps(manifest))
    table = rows(data.shards(read(run_folder)))
    column = {"documents": "Documents", "tokens": "Tokens", "bytes": "Text", "skipped": "Left out"}[missing]
    assert table["shard_00000"][column] == table["**all**"][column] == "not recorded"
    assert "not recorded" not in table["shard_00001"].values()


def test_old_manifests_leave_no_gap_unsaid(run_folder):
    pretrained(run_folder)
    run_folder.finetune("mid", "base", "Hello.")
    table = rows(data.seen(read(run_folder)))
    assert table["base"]["Epochs"] == "not recorded"
    for column in ("Data", "Left out", "Held out", "Epochs", "Cut", "Padding"):
        assert table["mid"][column] == "not recorded"


def test_own_data_is_told_with_its_files_and_lines(run_folder):
    pretrained(run_folder)
    text = add_source(
        run_folder,
        "text",
        documents=5_000,
        duplicates=7,
        skipped={"not_utf8": 2},
        damaged_files=[{"file": "own/old.jsonl.gz", "reason": "ends in the middle | of it"}],
        problems=[{"file": "own/a.jsonl", "row": 12, "reason": "no key 'text'"}],
    )
    conversations = add_source(run_folder, "conversations", conversations=80, skipped={})
    table = rows(data.sources(read(run_folder, text, conversations)))
    assert table["text"]["Kept"] == "5,000 documents"
    assert (table["text"]["Copies left out"], table["text"]["Damaged files"]) == ("7", "1")
    assert table["conversations"]["Kept"] == "80 conversations"
    assert table["conversations"]["Copies left out"] == "not recorded"
    told, whole = section(run_folder, text, conversations)
    assert "- `own/a.jsonl`, row 12: no key 'text'" in told
    assert r"- `own/old.jsonl.gz`, the rest of the file: ends in the middle \| of it" in told
    assert "Documents left out of the own data: 2 not UTF-8" in whole


def test_a_persona_has_no_counts_of_what_is_left_out_and_hides_no_others(run_folder):
    run_folder.tokenizer()
    problems = [{"row": 3, "reason": "empty"}]
    add_shard(run_folder, 0, skipped={"empty": 4}, problems=problems)
    persona = add_source(run_folder, "persona", conversations=500)
    path = persona / "manifest.json"
    path.write_text(path.read_text().replace('"own_persona"', '"persona"'))
    text = add_source(run_folder, "text", documents=9, skipped={"null": 6}, problems=problems, files_left_alone=1_234)
    found = read(run_folder, persona, text)
    assert data.places(found)[2:] == ["and 8 more"]
    table = rows(data.sources(found))
    assert table["persona"]["Kept"] == "500 conversations"
    assert {"not recorded", "none"}.isdisjoint(table["persona"].values())
    assert list(table["persona"].values())[2:] == ["–"] * 4
    assert table["text"]["Files of other kinds left alone"] == "1,234"
    assert table["text"]["Copies left out"] == "not recorded"
    edit(run_folder, "../../data/own/text", files_left_alone=0)
    assert "left alone" not in data.sources(read(run_folder, persona, text))
    _, whole = section(run_folder, persona, text)
    assert "Documents left out of the own data: 6 null; see Data." in whole


def test_a_shard_that_does_not_say_hides_no_others(run_folder):
    run_folder.tokenizer()
    add_shard(run_folder, 0, documents=5)
    add_shard(run_folder, 1, skipped={"empty": 3}, problems=[{"row": 3, "reason": "empty"}])
    assert data.places(read(run_folder))[-1] == "and 2 more"


def test_digests_of_many_shards_are_made_in_linear_time(run_folder, monkeypatch):
    run_folder.tokenizer()
    for shard in range(12):
        add_shard(run_folder, shard, documents=10, tokens=100, bytes=400)
    run_folder.base()
    found = read(run_folder)
    digest, made = Manifest.digest, []
    monkeypatch.setattr(Manifest, "digest", property(lambda manifest: made.append(1) or digest.fget(manifest)))
    table = data.shards(found)
    assert table.count("| training") == 11
    assert table.count("| validation") == 1
    assert len(made) == len(found.tokens)


def test_a_run_without_any_data_has_no_such_section(run_folder):
    run_folder.folder.mkdir(parents=True)
    found = read(run_folder)
    assert not (data.shards(found) or data.seen(found) or data.mixture(found) or data.places(found))
