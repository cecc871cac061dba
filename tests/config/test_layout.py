"""Paths follow from the configuration: runs share what is equal and never what differs."""

import pytest

from nanochat.config import Layout, load_config
from nanochat.config.check import check
from nanochat.config.plan import FetchPlan, fetch_plan
from nanochat.errors import ConfigError


def layout(train_tokens: int = 1_000_000, **values) -> Layout:
    return Layout(load_config(values), train_tokens)


HUB = {"source": "hub", "corpus": "fineweb_edu"}


def test_auto_takes_the_shards_the_horizon_needs():
    d20 = layout(11_200_000_000, data=HUB).texts[0]
    assert 220 <= len(d20.train) <= 250  # nanochat's speedrun takes 240
    assert len(layout(1_156_000_000, data=HUB).texts[0].train) == 25
    assert d20.val == 1822
    assert d20.val_shard.endswith("karpathy/fineweb-edu-100b-shuffle/shard_01822.parquet")
    assert max(d20.train) < d20.val


def test_a_mixture_takes_of_each_corpus_what_its_share_needs(tmp_path):
    notes = tmp_path / "notes"
    (notes / ".hidden").mkdir(parents=True)
    (notes / "a.txt").write_text("x" * 1000)
    (notes / ".hidden" / "b.txt").write_text("x")
    mixture = {"fineweb_edu": {"weight": 3}, "climbmix": {"weight": 1}, "own": {"weight": 0.5, "epochs": 4}}
    mixed = layout(
        1_156_000_000,
        data={"source": "hub", "mixture": mixture, "corpus": "climbmix"},
        own={"text": {"files": [str(notes)]}},
    )
    assert {text.name: len(text.train) for text in mixed.texts} == {"fineweb_edu": 17, "climbmix": 6, "own": 1}
    assert mixed.own_files == (str(notes / "a.txt"),)
    own = mixed.text("own")
    assert own.val_shard == f"{mixed.own_text}/datasets/own/text/shard_00001.parquet"
    assert mixed.sources == {
        "data/hub": "hub",
        mixed.own_text: f"{mixed.own_text}/made",
        mixed.world: f"{mixed.world}/made",
    }
    assert len(mixed.train_tokens_folders) == 24
    assert len(set(mixed.train_tokens_folders + mixed.val_tokens_folders)) == 27
    plan = fetch_plan(mixed, "data/hub")
    assert plan.shards == {"fineweb_edu": (17, 1822), "climbmix": (6, 6542)}
    paths = plan.paths(mixed.catalogue)
    assert len(paths) == len(set(paths)) and "eval_bundle" in paths
    assert not [path for path in paths if path.startswith("data/")]
    assert len(FetchPlan.model_validate_json(plan.model_dump_json()).tokens) == 2
    assert fetch_plan(mixed, mixed.own_text).paths(mixed.catalogue) == []


def test_own_text_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"own\.text\.files: nowhere/\*\.txt .* matches nothing"):
        layout(data={"corpus": "own"}, own={"text": {"files": ["nowhere/*.txt"]}}).input_files("own")


def test_own_conversations_are_files_of_the_run():
    run = layout(
        sft={"mixture": {"gsm8k": {}, "chats": {"epochs": 2}, "persona": {}}},
        own={"conversations": {"chats": "c.jsonl"}, "persona": {"file": "p.yaml"}},
        data=HUB,
    )
    assert run.task_files("sft")[-2:] == ["results/d4/own/chats", "results/d4/own/persona"]
    assert not [path for path in fetch_plan(run, "data/hub").files if "own" in path]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"corpus": "own"}}, "own.text.files"),
        ({"data": {"corpus": "climbmix"}}, "not in the embedded world"),
        ({"data": {"mixture": {"climbmx": {}}}}, "did you mean climbmix"),
        ({"sft": {"mixture": {"persona": {}}}}, "own.persona.file"),
        ({"data": {"mixture": {"wrld": {}}}}, "data.mixture.wrld: .*did you mean world"),
        ({"sft": {"mixture": {"chts": {}}}, "own": {"conversations": {"chats": "x"}}}, "did you mean chats"),
        ({"own": {"conversations": {"gsm8k": "x.jsonl"}}}, "choose another one"),
        ({"own": {"conversations": {"a/b": "x.jsonl"}}}, "expected letters"),
        ({"mid": {"mixture": {"facts": {"weight": 2}, "choice": {}}}}, "choice has no weight"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as error:
        layout(**values)
    assert "\n" not in str(error.value)


def test_more_shards_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match="1822 training shards"):
        layout(data=HUB | {"train_shards": 1823}).texts  # noqa: B018


def test_runs_share_tokens_exactly_when_the_tokenizer_is_the_same():
    first = layout(run="a", data=HUB)
    assert first.tokens_root == layout(run="b", depth=6, data=HUB).tokens_root
    assert first.tokens_root != layout(data=HUB, tokenizer={"vocab_size": 4096}).tokens_root
    assert first.data == "data/hub"


def test_another_world_lies_in_another_folder():
    assert layout().data == layout(depth=9).data
    assert layout().data != layout(world={"seed": 2}).data
    assert layout(data={"source": "/mirror/hub"}).data != layout(data={"source": "/other/hub"}).data


def test_without_rl_nothing_of_it_is_asked_for():
    with_rl = layout(rl={"task": "word_problems"}).artifacts
    without = layout(rl={"enabled": False}).artifacts
    assert {path for path in with_rl if path not in without} == {"results/d4/rl", "results/d4/eval/rl"}


def test_a_stage_reads_the_files_of_its_tasks():
    run = layout(sft={"mixture": {"gsm8k": {}, "identity": {}}}, data=HUB)
    assert run.task_files("sft") == [
        "data/hub/datasets/openai/gsm8k/main/train-00000-of-00001.parquet",
        "data/hub/files/identity_conversations.jsonl",
    ]


WORLD_RUN = {"rl": {"task": "word_problems"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mid": {"mixture": {"smoltalk": {}}}} | WORLD_RUN, "mid.mixture: smoltalk is not in the embedded world"),
        ({"chat_eval": {"tasks": {"mmlu": {}}}} | WORLD_RUN, "chat_eval.tasks: mmlu is not in the embedded world"),
        ({"sft": {"mixture": {"facts": {}}}, "data": HUB}, "sft.mixture: facts is of the embedded world"),
        ({"sft": {"mixture": {"spelling": {}}}, "data": HUB}, "sft.mixture: spelling is of the embedded world"),
    ],
)
def test_what_the_source_lacks_is_said_before_the_first_job(values, message):
    with pytest.raises(ConfigError, match=message):
        check(layout(**values))


def test_own_files_are_looked_for_where_they_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = WORLD_RUN | {
        "own": {"text": {"files": ["no/"]}, "persona": {"file": "no.yaml"}, "conversations": {"c": "no.jsonl"}},
        "data": {"mixture": {"world": {}, "own": {}}},
        "mid": {"mixture": {"c": {}}},
        "sft": {"mixture": {"persona": {}}},
    }
    check(layout(**values), files=False)  # as for a chat with a finished run
    unused = {"data": {}, "mid": {}, "sft": {}}
    check(layout(**(values | unused)))
    for use, key in (
        ("data", "own.text.files: no/ is"),
        ("mid", "own.conversations.c: no"),
        ("sft", "own.persona.file"),
    ):
        with pytest.raises(ConfigError, match=key):
            check(layout(**(values | unused | {use: values[use]})))


def test_a_folder_is_asked_for_everything_before_the_first_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {"source": "hub-copy", "corpus": "climbmix", "train_shards": 2}
    values = {"data": data, "rl": {"enabled": False}}
    with pytest.raises(ConfigError, match=r"data\.source = hub-copy: there is no such folder"):
        check(layout(**values))
    corpus = layout(**values).text("climbmix")
    for index in (0, corpus.val):
        path = tmp_path / "hub-copy" / corpus.entry.path(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "hub-copy" / "eval_bundle").mkdir()
    with pytest.raises(ConfigError, match=r"shard_00001.* data.train_shards = 2, climbmix needs the shards 0 to 1 and"):
        check(layout(**values))
    values["data"] = data | {"train_shards": 1}
    check(layout(**values))
    with pytest.raises(ConfigError, match=r"hub-copy has no datasets/openai/gsm8k.*take its task out"):
        check(layout(**values, sft={"mixture": {"gsm8k": {}}}))


def test_a_name_that_snakemake_cannot_handle_is_said(tmp_path):
    (tmp_path / "a {b}.md").write_text("x")
    with pytest.raises(ConfigError, match="braces"):
        layout(data={"corpus": "own"}, own={"text": {"files": [str(tmp_path)]}}).input_files("own")


def test_the_catalogues_pins_are_part_of_what_is_fetched():
    run = layout(data=HUB)
    path = run.catalogue.corpora["fineweb_edu"].path(0)
    assert run.version(path) == run.catalogue.corpora["fineweb_edu"].revision
    assert len(run.version("files/words_alpha.txt")) == 64
    assert layout(data={"source": "/mirror"}).version(path) == ""


def test_a_null_takes_a_task_out_of_a_mixture():
    run = load_config({"sft": {"mixture": {"gsm8k": {}, "identity": None}}})
    assert list(run.sft.mixture) == ["gsm8k"]
