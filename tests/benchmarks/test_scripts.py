"""Every benchmark runs to its end at a tiny size, and its last line says what the table says."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from nanochat.data.packing import Batch
from nanochat.data.world.bundle import write_bundle
from nanochat.data.world.facts import build_world

from ..conftest import REPOSITORY
from ..data.conftest import write_shard
from .reference_checkout import CORE_EVAL, ENGINE
from .reference_checkout import GPT as REFERENCE

BENCHMARKS = REPOSITORY / "benchmarks"
TINY = ["--depth", "2", "--head-dim", "16", "--vocab-size", "256", "--sequence-length", "128"]
TINY += ["--total-batch-size", "1024", "--device-batch-size", "4", "--precision", "float32", "--compile", "never"]


def launch(script, *arguments) -> subprocess.CompletedProcess[str]:
    # Waiting threads as the scripts would set them, which saves starting them twice; no GPU, whatever the machine has.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "5000", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def figures(done) -> dict:
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["machine"]["cpu"] and found["machine"]["memory_bytes"] > 0
    return found


def assert_positive(found, *names):
    for name in names:
        assert math.isfinite(found[name]) and found[name] > 0, name


def checkout(folder, text):
    (folder / "nanochat").mkdir()
    (folder / "nanochat" / "__init__.py").touch()
    (folder / "nanochat" / "gpt.py").write_text(text)
    return folder


def test_ours_is_measured_beside_a_reference_that_does_not_run(tmp_path):
    broken = checkout(tmp_path, "import a_package_it_needs")
    done = launch("train_cpu.py", *TINY, "--steps", 2, "--repeats", 2, "--warm-up", 1, "--nanochat", broken)
    found = figures(done)
    assert_positive(found, "tokens_per_s", "flops_per_token", "matmul_flops", "mfu_measured")
    assert found["mfu_measured"] == pytest.approx(
        found["tokens_per_s"] * found["flops_per_token"] / found["matmul_flops"], rel=1e-6
    )
    assert not found["compiled"] and found["device_batch_size"] == 4
    assert len(found["turns_tokens_per_s"]["ours"]) == 2
    assert f"{found['tokens_per_s']:,.0f}" in done.stdout  # the table has the same figure
    assert found["ratio_vs_reference"] is None and found["reference_bf16_tokens_per_s"] is None
    assert len(found["not_measured"]) == 2
    assert all("a_package_it_needs" in reason for reason in found["not_measured"])


def test_a_reference_is_measured_in_turn_in_both_types(tmp_path):
    arguments = ["--steps", 1, "--repeats", 3, "--warm-up", 1, "--reference-eager"]
    arguments += ["--nanochat", checkout(tmp_path, REFERENCE)]
    found = figures(launch("train_cpu.py", *TINY, *arguments))
    assert found["not_measured"] == []
    for ratio, other in (("ratio_vs_reference", "bf16"), ("ratio_vs_reference_fp32", "fp32")):
        assert_positive(found, f"reference_{other}_tokens_per_s")
        assert found[ratio] == pytest.approx(found["tokens_per_s"] / found[f"reference_{other}_tokens_per_s"])
    assert {len(rates) for rates in found["turns_tokens_per_s"].values()} == {3}


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "train_cpu.py"), "--nanochat", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and str(tmp_path) in done.stderr


def test_finetuning_counts_real_tokens_only():
    done = launch("finetune_throughput.py", *TINY, "--steps", 2, "--repeats", 2, "--conversations", 400)
    found = figures(done)
    assert_positive(found, "pretraining_tokens_per_s", "longer_than_a_row")
    assert found["pretraining_padding"] < 0.01
    for mode in ("assistant", "everything"):
        assert found[f"{mode}_ratio_vs_pretraining"] == pytest.approx(
            found[f"{mode}_tokens_per_s"] / found["pretraining_tokens_per_s"]
        )
        assert 0 <= found[f"{mode}_padding"] < 0.5 and 0 <= found[f"{mode}_padding_of_epoch"] < 0.5
    # What ends a row and is not learned is not counted there.
    assert found["assistant_padding_of_epoch"] == pytest.approx(found["everything_padding_of_epoch"], abs=0.05)


def test_costs_of_a_step_beside_training(tmp_path):
    arguments = ["--steps", 7, "--save-every", 3, "--repeats", 2, "--folder", tmp_path]
    found = figures(launch("step_costs.py", *TINY, *arguments))
    assert found["saves"] == 2 * 3  # after 3 and 6 steps, and the last
    assert_positive(found, "step_seconds", "save_seconds", "save_seconds_foreground", "checkpoint_bytes")
    assert found["save_share"] == pytest.approx(found["save_seconds"] / found["step_seconds"])
    assert 0 <= found["data_share"] < 1 and 0 < found["data_share_foreground"] < 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_the_gpu_benchmark_says_what_it_could_not_measure():
    found = figures(launch("gpu.py", "--steps", 1, "--repeats", 2))
    tiny = found["cpu_tiny"]
    assert_positive(tiny, "tokens_per_s", "mfu_measured", "ratio")
    plain = found["sections"]["cpu-tiny"]["plain"]
    assert tiny["ratio"] == pytest.approx(tiny["tokens_per_s"] / plain["tokens_per_s"])
    for name in ("d12_bfloat16", "d20_bfloat16", "d12_fp8", "d20_fp8"):
        assert found[name]["tokens_per_s"] is None and found[name]["mfu_datasheet"] is None
    assert found["kernels"] is None and found["attention"] is None
    missing = " ".join(found["not_measured"])
    assert all(name in missing for name in ("train-d12-bfloat16", "train-d20-fp8", "kernels", "attention", "peak"))


def test_a_section_that_is_cut_off_keeps_what_it_told(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    script = tmp_path / "section.py"
    script.write_text('import json, time\nprint(json.dumps({"a": {"b": 1}}), flush=True)\ntime.sleep(600)\n')
    monkeypatch.setattr(gpu, "SECTIONS", script)
    found = gpu.run_section("train", {}, seconds=2.0)
    assert found["a"] == {"b": 1} and "cut off" in found["failed"]["train"]


def test_plain_torch_trains_the_same_model(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from plain import PlainGPT, PlainMuonAdamW
    from shape import Shape
    from workload import BOS, Trainee, documents

    from nanochat.data.loader import TokenRows

    shape = Shape(3, 16, 300, 64, "SL", "float32", 512, 4)
    cpu = torch.device("cpu")
    trainees = (
        Trainee(shape, cpu, "never"),
        Trainee(shape, cpu, "never", PlainGPT(shape.config), PlainMuonAdamW),
    )
    rows = TokenRows([documents(300, 20_000, median_length=20)], 64, 0, BOS)
    batches: list[Batch] = [rows.read(8 * step, 8) for step in range(4)]
    assert (batches[0].segments.max(axis=1) > 0).any()
    losses = [[trainee.step(batch) for batch in batches] for trainee in trainees]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    ours, plain = (trainee.model.state_dict() for trainee in trainees)
    for name, value in plain.items():
        assert torch.linalg.vector_norm(ours[name] - value) <= 1e-3 * torch.linalg.vector_norm(value), name


def test_tokenizers_are_compared_on_the_same_text(tmp_path):
    lines = [" ".join(f"word{n * k % 97} and {k}" for k in range(60)) for n in range(200)]
    shards = [write_shard(tmp_path / "text" / f"shard_{n}.parquet", lines[n::3]) for n in range(3)]
    arguments = ["--vocab-size", 512, "--repeats", 1, "--threads", 1, "--made-gigabytes", 0.002]
    done = launch("tokenizer.py", *arguments, "--shards", *shards[:2], "--val", shards[2])
    found = figures(done)
    text = found["texts"]["text"]
    assert_positive(text["seconds"], "train_ours", "train_tokenizers", "encode_ours", "encode_tokenizers")
    assert_positive(found, "peak_mb")
    assert text["same_tokens"]
    assert found["made"]["whole"]["bytes"] > 5 * found["made"]["tenth"]["bytes"]
    if find_spec("rustbpe") and find_spec("tiktoken"):
        assert_positive(found, "train_time_vs_rustbpe", "encode_vs_tiktoken")
        assert found["bytes_per_token_vs_rustbpe"] == pytest.approx(1, abs=0.02)
    else:
        assert "not compared" in done.stdout


def test_core_is_measured_beside_a_reference_and_one_by_one(tmp_path):
    bundle = tmp_path / "bundle"
    tasks = write_bundle(build_world(3, 120), 3, 16, bundle)
    folder = checkout(tmp_path, REFERENCE)
    (folder / "nanochat/core_eval.py").write_text(CORE_EVAL)
    arguments = [*TINY, "--bundle", bundle, "--max-items", 3, "--repeats", 1, "--problems", 6, "--problems-alone", 2]
    arguments[arguments.index("256")] = "320"  # bytes, special tokens and a few merges
    done = launch("eval.py", *arguments, "--check-agreement", "--agreement-items", 2, "--nanochat", folder)
    found = figures(done)
    assert found["not_measured"] == [] and len(found["core_tasks"]) == len(tasks)
    assert found["compared"] == 2 * len(tasks) and found["disagreements"] == len(found["disagreeing_items"]) == 0
    assert found["largest_loss_difference"] < 1e-4
    assert_positive(found, "core_items_per_s", "core_reference_items_per_s", "chat_problems_per_s", "chat_ratio")
    assert found["core_ratio"] == pytest.approx(found["core_items_per_s"] / found["core_reference_items_per_s"])
    for entry in (*found["core_groups"].values(), *found["core_tasks"].values()):
        assert_positive(entry, "items_per_s", "reference_items_per_s", "ratio")
    (folder / "nanochat/core_eval.py").write_text("import a_package_it_needs")
    found = figures(launch("eval.py", *arguments, "--nanochat", folder))
    assert found["core_ratio"] is None and "a_package_it_needs" in found["not_measured"][0]
    assert_positive(found, "core_items_per_s")


def test_generation_beside_a_reference(tmp_path):
    folder = checkout(tmp_path, REFERENCE)
    (folder / "nanochat/engine.py").write_text(ENGINE)
    arguments = [*TINY, "--batches", 1, 3, "--steps", 6, "--repeats", 2, "--nanochat", folder]
    found = figures(launch("generate.py", *arguments))
    for batch in (1, 3):
        ours, theirs = (found[f"{who}_tokens_per_s_b{batch}"] for who in ("decode", "reference"))
        assert found[f"decode_ratio_b{batch}"] == pytest.approx(ours / theirs)
        assert 0 < found[f"decode_bandwidth_share_b{batch}"] < 5
    (folder / "nanochat/engine.py").write_text("import a_package_it_needs")
    found = figures(launch("generate.py", *arguments))
    assert "a_package_it_needs" in found["reference_error"] and found["decode_ratio_b1"] is None
    assert_positive(found, "decode_tokens_per_s_b1", "decode_tokens_per_s_b3")
