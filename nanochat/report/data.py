"""The section Data: what was read, what was left out and where, and how often each stage has seen it.

All of it is from manifests. A count that should be there and is not reads `not recorded`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nanochat.artifact import Manifest
from nanochat.report.collect import Artifact, Run
from nanochat.report.numbers import MISSING, count, fraction, number, percent, scaled, size
from nanochat.report.tables import markdown, total

NOT_RECORDED = "not recorded"
_SHARD_ROWS = 12  # more shards than this are shown in sums only
_PLACES = 20
_ROLES = ("training", "validation", "")
_WITHOUT_LOSS = ("persona",)  # makes its conversations itself: there is nothing that it could leave out
_REASON_CHARS = 120
_ALONE = "Files of other kinds left alone"


def _known(text: str) -> str:
    return NOT_RECORDED if text == MISSING else text


def shards(run: Run) -> str:
    """Documents, tokens and bytes of the token files, and what was left out, by shard or in sums."""
    groups: dict[tuple[str, str], list[tuple[str, Manifest]]] = {}
    for role, members in _by_role(run).items():
        for name, manifest in members:
            groups.setdefault((role, name.rpartition("/")[0]), []).append((name, manifest))
    rows = []
    for (role, corpus), members in groups.items():
        if len(run.tokens) <= _SHARD_ROWS:
            rows += [_shard_row(name, role, [manifest]) for name, manifest in members]
        else:
            name = f"{corpus + ': ' if corpus else ''}{len(members)} shard{'s' if len(members) > 1 else ''}"
            rows.append(_shard_row(name, role, [manifest for _, manifest in members]))
    if len(run.tokens) > 1:
        rows.append(_shard_row("**all**", "", [manifest for _, manifest in run.tokens]))
    return markdown(rows, ("Shard", "Used for", "Left out"))


def _by_role(run: Run) -> dict[str, list[tuple[str, Manifest]]]:
    """Role in pretraining → token files, in the order of the run."""
    base = run.artifacts["base"].manifest
    inputs = base.inputs.items() if base else ()
    roles = {digest: "training" for _, digest in inputs}
    roles |= {digest: "validation" for name, digest in inputs if name.startswith("val")}
    found: dict[str, list[tuple[str, Manifest]]] = {role: [] for role in _ROLES}
    for name, manifest in run.tokens:
        found[roles.get(manifest.digest, "")].append((name, manifest))
    return found


def _shard_row(name: str, role: str, manifests: Sequence[Manifest]) -> dict[str, str]:
    sums = {key: _sum(manifests, key) for key in ("documents", "tokens", "bytes")}
    ratio = sums["bytes"] / sums["tokens"] if sums["bytes"] and sums["tokens"] else None
    return {
        "Shard": name,
        "Used for": role or MISSING,
        "Documents": _known(count(sums["documents"])),
        "Tokens": _known(count(sums["tokens"])),
        "Text": _known(size(sums["bytes"])),
        "Bytes per token": _known(fraction(ratio, 2)),
        "Left out": in_words(left_out(manifests)),
    }


def _sum(manifests: Sequence[Manifest], key: str) -> float | None:
    """The sum of a metric where all manifests have it: part of a sum would be a wrong number."""
    values = [number(manifest.metrics.get(key)) for manifest in manifests]
    return None if None in values else total(values)


def left_out(manifests: Iterable[Manifest]) -> dict[str, float] | None:
    """Documents left out, by reason; None where a manifest that should say does not."""
    reasons: dict[str, float] = {}
    for manifest in manifests:
        if manifest.stage in _WITHOUT_LOSS:
            continue
        recorded = manifest.metrics.get("skipped")
        if not isinstance(recorded, dict):
            return None
        for reason, value in recorded.items():
            reasons[reason] = reasons.get(reason, 0) + (number(value) or 0)
    return reasons


def in_words(reasons: Mapping[str, float] | None) -> str:
    """Counts by reason: `12 empty, 3 not UTF-8`; `none` where all are zero."""
    if reasons is None:
        return NOT_RECORDED
    words = [f"{count(value)} {_reason(reason)}" for reason, value in reasons.items() if value]
    return ", ".join(words) or "none"


def _reason(name: str) -> str:
    return "not UTF-8" if name == "not_utf8" else name.replace("_", " ")


def places(run: Run) -> list[str]:
    """Files that broke off, and file, row and reason of the first documents that were left out."""
    made = [*run.sources, *run.tokens]
    broken = [
        f"`{entry.get('file', name)}`, the rest of the file: {_shortened(entry.get('reason'))}"
        for name, manifest in made
        for entry in _entries(manifest.metrics.get("damaged_files"))
    ]
    rows = [
        f"`{entry.get('file', f'{name}.parquet')}`, row {count(entry.get('row'))}: {_shortened(entry.get('reason'))}"
        for name, manifest in made
        for entry in _entries(manifest.metrics.get("problems"))
    ][:_PLACES]
    known = (left_out([manifest]) or {} for _, manifest in made)  # one that does not say hides no other
    others = sum(sum(reasons.values()) for reasons in known) - len(rows)
    if others > 0:
        rows.append(f"and {count(others)} more" if rows else f"{count(others)} documents whose rows are {NOT_RECORDED}")
    return broken + rows


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _shortened(reason: Any) -> str:
    text = " ".join(_reason(str(reason)).split()).replace("|", "\\|")
    return text if len(text) <= _REASON_CHARS else f"{text[:_REASON_CHARS]}…"


def sources(run: Run) -> str:
    """What became of the user's own files."""
    rows = [_source_row(name, manifest) for name, manifest in run.sources]
    if all(row[_ALONE] in (MISSING, "0") for row in rows):
        rows = [{column: text for column, text in row.items() if column != _ALONE} for row in rows]
    return markdown(rows, ("Own data", "Kept", "Others left out"))


def _source_row(name: str, manifest: Manifest) -> dict[str, str]:
    metrics = manifest.metrics
    kind = "conversations" if "conversations" in metrics else "documents"
    row = {
        "Own data": manifest.stage.removeprefix("own_") or name,
        "Kept": _amount(metrics.get(kind), kind),
        "Copies left out": _known(count(metrics.get("duplicates"))),
        "Others left out": in_words(left_out([manifest])),
        "Damaged files": _known(count(_length(metrics.get("damaged_files")))),
        _ALONE: count(metrics.get("files_left_alone")),
    }
    if manifest.stage in _WITHOUT_LOSS:
        row |= dict.fromkeys(("Copies left out", "Others left out", "Damaged files"), MISSING)
    return row


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _amount(value: Any, what: str) -> str:
    return NOT_RECORDED if number(value) is None else f"{count(value)} {what}"


def seen(run: Run) -> str:
    """What each stage read, how often it went through it, and what it cut, left out or filled up."""
    rows = [
        row
        for key, make in (("tokenizer", _tokenizer), ("base", _base), ("mid", _chat), ("sft", _chat), ("rl", _rl))
        if run.artifacts[key].manifest
        for row in [{"Stage": key} | make(run, run.artifacts[key])]
    ]
    columns = dict.fromkeys(name for row in rows for name in row)
    return markdown([dict.fromkeys(columns, MISSING) | row for row in rows], ("Stage", "Data", "Left out"))


def _tokenizer(run: Run, stage: Artifact) -> dict[str, str]:
    characters = stage.metrics.get("characters")
    of_it = f" ({scaled(characters, 'characters')})" if number(characters) is not None else ""
    return {
        "Data": _amount(stage.metrics.get("documents"), "documents") + of_it,
        "Left out": in_words(left_out([stage.manifest] if stage.manifest else [])),
    }


def _base(run: Run, stage: Artifact) -> dict[str, str]:
    roles = _by_role(run)
    training, held_out = ([manifest for _, manifest in roles[role]] for role in ("training", "validation"))
    tokens = _sum(training, "tokens")
    of_it = f" ({scaled(tokens, 'tokens')})" if tokens is not None else ""
    return {
        "Data": _amount(_sum(training, "documents"), "documents") + of_it,
        "Left out": in_words(left_out(training) if training else None),
        "Held out": _known(count(_sum(held_out, "documents"))),
        "Tokens seen": _known(scaled(stage.manifest and stage.manifest.tokens)),
        "Epochs": _epochs(stage),
    }


def _epochs(stage: Artifact) -> str:
    """Passes over the data; of each corpus where there are several."""
    corpora = stage.metrics.get("epochs_by_corpus")
    if isinstance(corpora, dict):
        return ", ".join(f"{name} {_known(fraction(value, 2))}" for name, value in corpora.items())
    return _known(fraction(stage.metric("epochs"), 2))


def _chat(run: Run, stage: Artifact) -> dict[str, str]:
    parts = stage.metrics.get("conversations")
    dropped = stage.metric("conversations_dropped")
    return {
        "Data": _amount(_part(parts, "train/"), "conversations"),
        "Left out": in_words(None if dropped is None else {"nothing to learn": dropped}),
        "Held out": _known(count(_part(parts, "validation/"))),
        "Tokens seen": _known(scaled(stage.manifest and stage.manifest.tokens)),
        "Epochs": _known(fraction(stage.metric("epochs"), 2)),
        "Cut": _known(count(stage.metric("conversations_cut"))),
        "Padding": _known(percent(stage.metric("padding"))),
    }


def _part(parts: Any, prefix: str) -> float | None:
    return total(value for name, value in parts.items() if name.startswith(prefix)) if isinstance(parts, dict) else None


def _rl(run: Run, stage: Artifact) -> dict[str, str]:
    return {
        "Data": _amount(stage.metrics.get("problems"), "problems"),
        "Held out": _known(count(stage.metrics.get("validation_problems"))),
        "Tokens seen": _known(scaled(stage.manifest and stage.manifest.tokens)),
    }


def mixture(run: Run) -> str:
    """The task mixtures of midtraining and SFT: conversations of each task, and passes over them in an epoch."""
    rows: dict[str, dict[str, str]] = {}
    for stage in ("mid", "sft"):
        artifact = run.artifacts[stage]
        parts = artifact.metrics.get("conversations")
        for task, entry in (artifact.settings.get(stage, {}).get("mixture") or {}).items():
            recorded = parts.get(f"train/{task}") if isinstance(parts, dict) else None
            row = rows.setdefault(task, {"Task": task})
            row[f"In {stage}"] = _amount(recorded, "conversations")
            row[f"Passes in {stage}"] = _passes(artifact.metrics.get("passes"), task, entry)
    columns = dict.fromkeys(name for stage in ("mid", "sft") for name in ("Task", f"In {stage}", f"Passes in {stage}"))
    return markdown([dict.fromkeys(columns, MISSING) | row for row in rows.values()], ("Task",))


def _passes(recorded: Any, task: str, entry: Any) -> str:
    """Passes as they were made: with weights, the `epochs` of the config are only the most there may be."""
    made = number(recorded.get(task)) if isinstance(recorded, dict) else None
    if made is None:
        return NOT_RECORDED
    cap = number(entry.get("max_items")) if isinstance(entry, dict) else None
    passes = scaled(made)
    return passes if cap is None else f"{passes} × at most {count(cap)} items"
