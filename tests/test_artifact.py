"""Artifacts: digests catch damage, one writer at a time, finished work is promoted again instead of made again."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from nanochat.artifact import MANIFEST, Workspace, digest_file, input_digest, read_manifest, verify, write_atomically
from nanochat.config import Settings
from nanochat.errors import ArtifactError


class Stage(Settings):
    rate: float = 0.1


def make(out: Path, rate: float = 0.1, inputs: dict[str, Path] | None = None, text: str = "weights"):
    with Workspace(out, "sft", Stage(rate=rate), inputs or {}) as workspace:
        made = not workspace.finished()
        if not made:
            return made, workspace.promote()
        (workspace.final / "model.bin").write_text(text)
        (workspace.final / "metrics.jsonl").write_text(str(time.time_ns()))
        return made, workspace.finish(metrics={"loss": 1.0}, steps=3)


def test_an_artifact_is_read_back_and_verified(tmp_path):
    _, manifest = make(tmp_path / "sft")
    assert verify(tmp_path / "sft") == manifest == read_manifest(tmp_path / "sft", "sft")
    assert manifest.files["model.bin"].sha256 == digest_file(tmp_path / "sft" / "model.bin")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_deleted_output_is_promoted_again_not_made_again(tmp_path):
    out = tmp_path / "sft"
    make(out)
    for path in out.iterdir():
        path.unlink()
    out.rmdir()
    made, _ = make(out)
    assert not made
    verify(out)


def test_another_setting_is_another_artifact_and_the_way_back_is_free(tmp_path):
    out = tmp_path / "sft"
    make(out, 0.1)
    assert make(out, 0.2)[0]
    assert read_manifest(out).settings == {"rate": 0.2}
    assert not make(out, 0.1)[0]
    assert read_manifest(out).settings == {"rate": 0.1}


def test_the_digest_is_of_the_content_not_of_the_making(tmp_path):
    first, second = make(tmp_path / "a" / "sft")[1], make(tmp_path / "b" / "sft")[1]
    assert first.files["metrics.jsonl"] != second.files["metrics.jsonl"]
    assert first.digest == second.digest
    assert first.digest != make(tmp_path / "c" / "sft", text="other")[1].digest


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "none"])
def test_damage_is_named(tmp_path, damage):
    out = tmp_path / "sft"
    make(out)
    file = out / "model.bin"
    if damage == "flip":
        file.write_bytes(b"Weights")
    elif damage == "cut":
        file.write_bytes(b"weigh")
    elif damage == "remove":
        file.unlink()
    elif damage == "manifest":
        (out / MANIFEST).write_text("{")
    else:
        verify(out)
        return
    with pytest.raises(ArtifactError, match=r"manifest.json" if damage == "manifest" else r"model\.bin"):
        Workspace(tmp_path / "rl", "rl", Stage(), {"init": out})


def test_a_damaged_finished_result_is_made_again(tmp_path):
    out = tmp_path / "sft"
    make(out)
    (out / "model.bin").write_bytes(b"Weights")  # a hard link: the kept copy is damaged too
    assert make(out)[0]
    verify(out)


def test_an_artifact_of_another_stage_is_refused(tmp_path):
    make(tmp_path / "sft")
    with pytest.raises(ArtifactError, match=r"stage sft, expected mid or rl"):
        read_manifest(tmp_path / "sft", ["mid", "rl"])
    with pytest.raises(ArtifactError, match=r"no manifest.json"):
        read_manifest(tmp_path)


def test_a_plain_folder_has_the_digest_of_its_files(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    before = input_digest(folder)
    (folder / ".snakemake_timestamp").touch()
    assert input_digest(folder) == before
    (folder / "a.txt").write_text("b")
    assert input_digest(folder) != before


def test_inputs_are_part_of_the_fingerprint(tmp_path):
    source = tmp_path / "words.txt"
    source.write_text("one")
    assert make(tmp_path / "sft", inputs={"words": source})[0]
    assert not make(tmp_path / "sft", inputs={"words": source})[0]
    source.write_text("two")
    assert make(tmp_path / "sft", inputs={"words": source})[0]


def _hold(out: Path, entered, release) -> None:
    with Workspace(out, "sft", Stage(), {}) as workspace:
        entered.set()
        release.wait(30)
        (workspace.final / "model.bin").write_text("weights")
        workspace.finish()


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_process_waits_for_the_first_and_says_who_it_is(tmp_path, killed, caplog):
    context = multiprocessing.get_context("fork")
    entered, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "sft", entered, release))
    holder.start()
    assert entered.wait(30)
    waiter = context.Process(target=_wait_and_check, args=(tmp_path / "sft", killed, tmp_path / "seen"))
    waiter.start()
    while not (tmp_path / "seen").exists() or str(holder.pid) not in (tmp_path / "seen").read_text():
        assert waiter.is_alive()
    if killed:
        os.kill(holder.pid, signal.SIGKILL)
    else:
        release.set()
    waiter.join(30)
    holder.join(30)
    assert waiter.exitcode == 0
    verify(tmp_path / "sft")


def _wait_and_check(out: Path, killed: bool, seen: Path) -> None:
    import logging

    logging.basicConfig(filename=seen, level=logging.WARNING, force=True)
    made, _ = make(out)
    assert made == killed


def test_write_atomically_leaves_the_old_text_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "report.md"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]
