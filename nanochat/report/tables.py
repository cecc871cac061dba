"""Tables of the run: pipeline, time, bits per byte, compression. One function each.

Every function returns a Markdown table, or an empty string where there is nothing to show.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from nanochat.report.collect import CHECKPOINTS, Artifact, Run
from nanochat.report.numbers import MISSING, count, duration, flops, fraction, number, percent, scaled, size


def markdown(rows: Sequence[Mapping[str, str]], left: Iterable[str]) -> str:
    """Render rows as a Markdown table.

    Args:
        rows: column name → text, the same columns in each.
        left: columns aligned left; the others hold numbers and go right.
    """
    if not rows:
        return ""
    frame = pd.DataFrame(rows).astype(str)
    frame = frame.apply(lambda column: column.str.replace("|", "\\|").str.replace(r"\s*\n\s*", " ", regex=True))
    sides = ["left" if name in set(left) else "right" for name in frame.columns]
    return frame.to_markdown(index=False, colalign=sides, disable_numparse=True)


def _drop_empty(rows: list[dict[str, str]], keep: Iterable[str]) -> list[dict[str, str]]:
    """The rows without the columns that say nothing in any of them."""
    empty = {name for name in (rows[0] if rows else ()) if all(row[name] == MISSING for row in rows)} - set(keep)
    return [{name: text for name, text in row.items() if name not in empty} for row in rows]


def tokens_per_second(artifact: Artifact) -> str:
    """Training throughput as the stage measured it; over the whole wall time, marked ≈, where it did not."""
    measured = artifact.metric("tokens_per_second")
    if measured is not None:
        return count(measured)
    manifest = artifact.manifest
    if manifest and manifest.tokens and manifest.wall_seconds:
        return f"≈ {count(manifest.tokens / manifest.wall_seconds)}"
    return MISSING


def pipeline(run: Run) -> str:
    """What each stage did and what it cost; stages that are not there say why."""
    rows = []
    for artifact in run.artifacts.values():
        manifest = artifact.manifest
        trained = artifact.key in CHECKPOINTS
        rows.append(
            {
                "Stage": artifact.title,
                "Steps": count(manifest and manifest.steps),
                "Tokens": scaled(manifest and manifest.tokens),
                "FLOPs": flops(manifest and manifest.flops),
                "Wall time": duration(manifest and manifest.wall_seconds),
                "Tokens/s": tokens_per_second(artifact) if trained else MISSING,
                "MFU, datasheet": percent(artifact.metric("mfu_datasheet")),
                "MFU, measured": percent(artifact.metric("mfu_measured")),
                "Peak memory": size(manifest and manifest.peak_memory_bytes),
                "State": artifact.note.split(";")[0] or "done",
            }
        )
        if artifact.key == "tokenizer_eval" and run.tokens:
            rows.append(_tokens_row(run, rows[-1]))
    return markdown(_drop_empty(rows, ("Stage", "MFU, datasheet", "MFU, measured", "State")), ("Stage", "State"))


def _tokens_row(run: Run, columns: Mapping[str, str]) -> dict[str, str]:
    manifests = [manifest for _, manifest in run.tokens]
    return dict.fromkeys(columns, MISSING) | {
        "Stage": f"tokens ({len(manifests)} shards)",
        "Tokens": scaled(total(manifest.metrics.get("tokens", manifest.tokens) for manifest in manifests)),
        "Wall time": duration(total(manifest.wall_seconds for manifest in manifests)),
        "Peak memory": size(max((m.peak_memory_bytes for m in manifests if m.peak_memory_bytes), default=None)),
        "State": "done",
    }


def total(values: Iterable[Any]) -> float | None:
    """The sum of those values that are numbers; None where none is."""
    known = [value for value in map(number, values) if value is not None]
    return sum(known) if known else None


def stage_seconds(run: Run) -> dict[str, tuple[str, float]]:
    """Key → (title, seconds) of everything whose time is known, in the order of the DAG.

    A manifest counts over interruptions but not the start of Python; a benchmark file the reverse: the larger one is
    taken.
    """
    titles = {artifact.key: artifact.title for artifact in run.artifacts.values()}
    seconds: dict[str, float] = {}
    for artifact in run.done:
        if artifact.manifest and artifact.manifest.wall_seconds is not None:
            seconds[artifact.key] = artifact.manifest.wall_seconds
    shards = total(manifest.wall_seconds for _, manifest in run.tokens)
    if shards is not None:
        seconds["tokens"] = shards
    for job, spent in run.benchmarks.groupby("job")["seconds"].sum(min_count=1).dropna().items():
        seconds[str(job)] = max(seconds.get(str(job), 0.0), float(spent))
    order = ["world", "shards", "shard", "dataset", "bundle", "tokenizer", "tokenizer_eval", "tokens", *titles]
    ranked = sorted(seconds, key=lambda key: (order.index(key) if key in order else len(order), key))
    return {key: (titles.get(key, key), seconds[key]) for key in ranked if key != "report"}


def time(run: Run) -> str:
    """Where the time went, per kind of job."""
    spent = stage_seconds(run)
    whole = sum(seconds for _, seconds in spent.values())
    jobs = run.benchmarks.groupby("job").agg(
        runs=("seconds", "size"),
        cpu=("cpu_seconds", lambda column: column.sum(min_count=1)),
        memory=("memory_bytes", "max"),
    )
    rows = []
    for key, (title, seconds) in spent.items():
        job = jobs.loc[key] if key in jobs.index else {}
        made = len(run.tokens) if key == "tokens" else 1
        rows.append(
            {
                "Work": title,
                "Jobs": count(max(made, job.get("runs", 1))),
                "Time": duration(seconds),
                "Share": percent(seconds / whole if whole else None),
                "CPU time": duration(job.get("cpu")),
                "Peak memory (RSS)": size(job.get("memory")),
            }
        )
    if rows:
        sums = {"Work": "**all**", "Jobs": MISSING, "Time": f"**{duration(whole)}**", "Share": "100 %"}
        rows.append(dict.fromkeys(rows[0], MISSING) | sums)
    return markdown(_drop_empty(rows, ("Work",)), ("Work",))


def rl_time(run: Run) -> str:
    """How RL divides its steps between sampling answers, checking them and learning; one sentence."""
    parts = {name: run.artifacts["rl"].logged(f"seconds_{name}").sum() for name in ("rollout", "reward", "update")}
    whole = sum(parts.values())
    if not whole:
        return ""
    words = {"rollout": "sampling answers", "reward": "checking them", "update": "learning from them"}
    shares = [f"{percent(seconds / whole)} on {words[name]}" for name, seconds in parts.items() if seconds]
    return f"Of the time in RL's steps, {', '.join(shares)}."


def bits_per_byte(run: Run) -> str:
    """Bits per byte before and after training, beside a unigram model's, on which text and how much of it."""
    base, mid, sft = (run.artifacts[key] for key in ("base", "mid", "sft"))
    measured, tokens = (
        found if isinstance(found := run.artifacts["base_eval"].metrics.get(name), dict) else {}
        for name in ("bpb", "bpb_tokens")
    )
    final = number(measured.get("val"))
    much = {part: f" ({count(known)} tokens)" if (known := tokens.get(part)) else "" for part in ("train", "val")}
    lines = [
        ("untrained model", "validation text", first_value(base, "val_bpb")),
        ("unigram model (token frequencies alone)", "validation text", number(measured.get("unigram"))),
        ("base", f"training text{much['train']}", number(measured.get("train"))),
        (
            "base",
            "validation text" if final is None else f"validation text{much['val']}",
            final if final is not None else last_value(base, "val_bpb"),
        ),
        *(
            ("base", f"{part} text of {name.removeprefix(f'{prefix}_')}", number(value))
            for part, prefix in (("training", "train"), ("validation", "val"))
            for name, value in measured.items()
            if name.startswith(f"{prefix}_")
        ),
    ]
    for stage in (mid, sft):
        held_out = f"held-out conversations of {stage.key}"
        lines.append((f"before {stage.key}", held_out, first_value(stage, "val_bpb")))
        lines.append((f"after {stage.key}", held_out, last_value(stage, "val_bpb")))
    rows = [
        {"Model": model, "Text": text, "Bits per byte": fraction(value)}
        for model, text, value in lines
        if value is not None
    ]
    return markdown(rows, ("Model", "Text"))


def first_value(artifact: Artifact, name: str) -> float | None:
    """A metric before training: what the manifest says, else the first logged value if it was logged at step 0."""
    known = artifact.metric(f"initial_{name}")
    logged = artifact.logged(name)
    if known is None and len(logged) and logged.index[0] == 0:
        return float(logged.iloc[0])
    return known


def last_value(artifact: Artifact, name: str) -> float | None:
    """A metric after training: what the manifest says, else the last logged value."""
    known = artifact.metric(name)
    logged = artifact.logged(name)
    return float(logged.iloc[-1]) if known is None and len(logged) else known


def compression(run: Run) -> str:
    """The tokenizer's compression by kind of text, as its evaluation recorded it."""
    metrics = run.artifacts["tokenizer_eval"].metrics
    tables = [records for value in metrics.values() if (records := _records(value))]
    records = tables[0] if tables else _records(metrics)
    names = list(dict.fromkeys(name for record in records for name in record))
    rows = [{name.replace("_", " "): _plain(name, record.get(name)) for name in names} for record in records]
    labels = [name.replace("_", " ") for name in names if any(isinstance(record.get(name), str) for record in records)]
    return markdown(rows, labels)


def _records(value: Any) -> list[dict[str, Any]]:
    """A list of records, also where it is written as name → record."""
    if isinstance(value, dict):
        if not value or not all(isinstance(inner, dict) for inner in value.values()):
            return []
        return [{"text": name, **inner} for name, inner in value.items()]
    if isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        return value
    return []


def _plain(name: str, value: Any) -> str:
    known = number(value)
    if known is None:
        return str(value) if isinstance(value, str) else MISSING
    if "share" in name or "fraction" in name:
        return percent(known)
    return count(known) if known == round(known) and ("per" not in name) else fraction(known, 2)
