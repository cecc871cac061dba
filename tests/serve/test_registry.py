"""Which models there are, and which of them are in memory."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from nanochat.config import ChatSettings
from nanochat.errors import ArtifactError
from nanochat.infer.checkpoint import load_checkpoint
from nanochat.serve.errors import BusyError, UnknownModelError
from nanochat.serve.registry import Registry


@pytest.fixture(scope="module")
def results(chat_run, tmp_path_factory):
    """Two runs beside each other, and things that are none."""
    results = tmp_path_factory.mktemp("two")
    shutil.copytree(chat_run, results / "heart")
    shutil.copytree(chat_run / "sft", results / "other" / "sft")
    (results / "unfinished" / "base").mkdir(parents=True)
    (results / "conversations").mkdir()
    (results / "note.txt").write_text("not a run")
    return results


def test_all_checkpoints_are_found_the_runs_own_first(results):
    registry = Registry(results / "other")
    assert registry.names == ("other/sft", "heart/base", "heart/sft")
    assert registry.default == "other/sft"
    assert [checkpoint.stage for checkpoint in registry.checkpoints] == ["sft", "base", "sft"]
    assert all(checkpoint.created > 1_700_000_000 for checkpoint in registry.checkpoints)


def test_a_model_is_meant_by_its_name_by_a_stage_of_the_run_or_by_auto(results):
    registry = Registry(results / "heart")
    assert registry.resolve("sft").name == registry.resolve("auto").name == "heart/sft"
    assert registry.resolve("other/sft").directory == results / "other" / "sft"
    assert registry.get("base") is registry.get("heart/base")
    with pytest.raises(UnknownModelError, match=r"no model 'rl'; there are: heart/base, heart/sft, other/sft"):
        registry.get("rl")


@pytest.mark.parametrize("name", ["", "../heart/sft", "heart", "heart/sft/", "/etc", "heart/../other/sft"])
def test_no_other_name_leads_anywhere(results, name):
    with pytest.raises(UnknownModelError):
        Registry(results / "heart").resolve(name)


def test_the_stage_to_begin_with_has_to_be_there(results):
    assert Registry(results / "heart", settings=ChatSettings(stage="base")).default == "heart/base"
    with pytest.raises(ArtifactError, match=r"'rl' has no checkpoint .* base, sft"):
        Registry(results / "heart", settings=ChatSettings(stage="rl"))


def test_an_empty_run_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no checkpoint to talk to.*snakemake"):
        Registry(tmp_path)


def test_a_copied_checkpoint_directory_is_served_by_itself(results, tmp_path):
    registry = Registry(shutil.copytree(results / "heart" / "sft", tmp_path / "copy"))
    assert registry.names == ("sft",)
    assert registry.get("auto").stage == "sft"


def test_a_checkpoint_is_loaded_once_and_again_after_it_changed(results, tmp_path):
    run = shutil.copytree(results / "heart", tmp_path / "run")
    registry = Registry(run)
    first = registry.get("sft")
    assert registry.get("auto") is first
    (run / "sft" / "manifest.json").touch()
    assert registry.get("sft") is not first


def test_a_damaged_checkpoint_is_told(results, tmp_path):
    run = shutil.copytree(results / "heart", tmp_path / "run")
    weights = run / "sft" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"model.safetensors"):
        Registry(run).get("sft")


def test_the_model_not_spoken_to_for_longest_makes_room(results):
    registry = Registry(results / "heart", settings=ChatSettings(models=2))
    base, sft = registry.get("base"), registry.get("sft")
    assert registry.get("base") is base
    registry.get("other/sft")
    assert registry.get("base") is base
    assert registry.get("sft") is not sft


def test_models_in_use_stay(results):
    registry = Registry(results / "heart", settings=ChatSettings(models=2))
    base, sft = registry.get("base"), registry.get("sft")
    base.users = sft.users = 1
    with pytest.raises(BusyError, match=r"2 models are in use"):
        registry.get("other/sft")
    base.users = 0
    registry.get("other/sft")
    assert registry.get("sft") is sft


def test_slots_follow_the_settings_or_the_memory(results):
    assert Registry(results / "heart", settings=ChatSettings(slots=3)).get("sft").slots == 3
    model = Registry(results / "heart").get("sft")
    row = model.engine.decoder.cache(1, model.context_size).nbytes
    assert 1 <= model.slots <= 64
    small = type(model)("x", model.loaded, "auto", free_bytes=8 * row)
    assert small.slots == 2


def test_nobody_waits_for_a_model_that_another_one_loads(results, monkeypatch):
    registry = Registry(results / "heart")
    sft = registry.get("sft")
    begun, hold = threading.Event(), threading.Event()

    def slow(*arguments, **options):
        begun.set()
        assert hold.wait(30)
        return load_checkpoint(*arguments, **options)

    monkeypatch.setattr("nanochat.serve.registry.load_checkpoint", slow)
    with ThreadPoolExecutor(2) as threads:
        loading = [threads.submit(registry.get, "base") for _ in range(2)]
        assert begun.wait(30)
        assert registry.get("sft") is sft
        hold.set()
        first, second = (future.result(30) for future in loading)
    assert first is second is registry.get("base")
