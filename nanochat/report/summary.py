"""The report in words: the summary card, what was skipped or capped, the settings that are not defaults."""

import json
from typing import Any

from nanochat.config import STAGES, ChatTaskSettings
from nanochat.report.collect import CHECKPOINTS, Artifact, Run
from nanochat.report.data import in_words, left_out
from nanochat.report.numbers import count, duration, flops, fraction, number, scaled, size
from nanochat.report.score_tables import absent_stages, capped
from nanochat.report.scores import headlines, task_scores
from nanochat.report.tables import first_value, last_value, markdown, stage_seconds

_NAMES = {"mid": "midtraining", "sft": "supervised fine-tuning", "rl": "reinforcement learning"}
_AFTER = {"base": "of the base model"} | {stage: f"after {name}" for stage, name in _NAMES.items()}


def shape(run: Run) -> dict[str, Any]:
    """The model's shape, from model.json of the first checkpoint there is; empty where there is none."""
    for key in CHECKPOINTS:
        path = run.artifacts[key].directory / "model.json"
        if path.is_file():
            try:
                content = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            inner = content.get("config", content) if isinstance(content, dict) else {}
            return inner if isinstance(inner, dict) else {}
    return {}


def parameters(run: Run) -> float | None:
    """Number of parameters in all, as the checkpoint's manifest counts them."""
    for key in CHECKPOINTS:
        recorded = run.artifacts[key].metrics.get("parameters")
        if number(recorded) is not None:
            return number(recorded)
        if isinstance(recorded, dict):
            if number(recorded.get("total")) is not None:
                return number(recorded["total"])
            parts = [known for value in recorded.values() if (known := number(value)) is not None]
            return sum(parts) if parts else None
    return None


def _model_sentence(run: Run) -> str:
    model = shape(run)
    depth = model.get("depth", run.artifacts["base"].settings.get("depth"))
    arch = model.get("arch", run.artifacts["base"].settings.get("model", {}).get("arch"))
    facts = [f"{depth} layers"] if depth else []
    if model.get("width"):
        heads = f" ({model['heads']} heads)" if model.get("heads") else ""
        facts.append(f"width {count(model['width'])}{heads}")
    if parameters(run):
        facts.append(f"**{scaled(parameters(run))} parameters**")
    if model.get("vocab_size"):
        facts.append(f"a vocabulary of {count(model['vocab_size'])} tokens")
    if model.get("sequence_length"):
        facts.append(f"a context of {count(model['sequence_length'])} tokens")
    kind = f"a {arch} transformer" if arch else "a transformer"
    return f"**{run.name}** is {kind}" + (f" with {_and(facts)}." if facts else ".")


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _training_sentence(run: Run) -> str:
    base = run.artifacts["base"]
    if base.manifest is None:
        return f"Its pretraining is not finished: {base.note}."
    manifest, effort = base.manifest, []
    if manifest.steps:
        effort.append(f"{count(manifest.steps)} steps")
    if manifest.flops:
        effort.append(f"{flops(manifest.flops)} FLOPs")
    seen = f"**{scaled(manifest.tokens, 'tokens')}**" if manifest.tokens else "text"
    later = [_NAMES[key] for key in CHECKPOINTS[1:] if run.artifacts[key].manifest]
    after = f", then went through {_and(later)}" if later else ""
    return f"It was pretrained on {seen}" + (f" ({', '.join(effort)})" if effort else "") + f"{after}."


def _time_sentence(run: Run) -> str:
    whole = sum(seconds for _, seconds in stage_seconds(run).values())
    if not whole:
        return ""
    machine = hardware(run)
    return f"All recorded stages together took **{duration(whole)}**" + (f" on {machine}." if machine else ".")


def hardware(run: Run) -> str:
    """The machine the model was trained on, in words; empty where no manifest says."""
    trained = [run.artifacts[key] for key in CHECKPOINTS]
    known = next((a.manifest.hardware for a in [*trained, *run.done] if a.manifest and a.manifest.hardware), None)
    if known is None:
        return ""
    cpu = ", ".join(
        part
        for part in (
            str(known.get("cpu", "")),
            f"{known['cores']} cores" if known.get("cores") else "",
            f"{size(known['memory_bytes'])} memory" if known.get("memory_bytes") else "",
        )
        if part
    )
    if known.get("devices"):
        return f"{known['devices']} × {known.get('device', 'GPU')} ({cpu})" if cpu else f"{known.get('device')}"
    return cpu


def _loss_sentence(run: Run) -> str:
    base = run.artifacts["base"]
    measured = run.artifacts["base_eval"].metrics.get("bpb")
    measured = measured if isinstance(measured, dict) else {}
    final = number(measured.get("val"))
    final = last_value(base, "val_bpb") if final is None else final
    if final is None:
        return ""
    start, unigram = first_value(base, "val_bpb"), number(measured.get("unigram"))
    sentence = "Validation bits per byte " + (f"fell from {fraction(start)} to" if start else "are")
    sentence += f" **{fraction(final)}**"
    return sentence + (f"; a unigram model has {fraction(unigram)}." if unigram else ".")


def _named(part: str) -> str:
    """What a mean over tasks leaves out, between brackets."""
    return f" ({part})" if part else ""


def _score_sentence(run: Run) -> str:
    found = [("base", headlines(run.artifacts["base_eval"]))]
    chat = [stage for stage in CHECKPOINTS[1:] if run.artifacts[f"{stage}_eval"].manifest]
    if chat:
        found.append((chat[-1], headlines(run.artifacts[f"{chat[-1]}_eval"])))
    parts = [
        f"{name if name[0].isupper() else 'the ' + name} {_AFTER[stage]}{_named(score.part)} is **{score.figure}**"
        for stage, column in found
        for name, score in column.items()
    ]
    if not parts:
        return ""
    sentence = _and(parts)
    return f"{sentence[0].upper()}{sentence[1:]} (0 is guessing, 1 is all right)."


def card(run: Run) -> str:
    """The run in one paragraph."""
    sentences = (_model_sentence, _training_sentence, _time_sentence, _loss_sentence, _score_sentence)
    return " ".join(text for sentence in sentences if (text := sentence(run)))


def omissions(run: Run) -> list[str]:
    """What was not run, asked only in part, or left out; as sentences."""
    notes = [f"{artifact.title}: {artifact.note}." for artifact in run.artifacts.values() if artifact.note]
    notes += capped(run)
    for what, made in (("token files", run.tokens), ("own data", run.sources)):
        reasons = left_out(manifest for _, manifest in made)
        if reasons is None or any(reasons.values()):
            notes.append(f"Documents left out of the {what}: {in_words(reasons)}; see Data.")
    if run.artifacts["base_eval"].manifest and not run.artifacts["base_eval"].scores:
        notes.append("CORE: no tasks were evaluated.")
    for stage in CHECKPOINTS[1:]:
        evaluation = run.artifacts[f"{stage}_eval"]
        if evaluation.manifest and not task_scores(evaluation):
            notes.append(f"{evaluation.title}: no tasks were evaluated.")
    return notes


def missing_columns(run: Run) -> str:
    """Why columns of the score table are empty; one line."""
    return " ".join(absent_stages(run))


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {key: leaf for name, inner in value.items() for key, leaf in _flat(f"{prefix}.{name}", inner).items()}
    return {prefix: value}


def settings(run: Run) -> str:
    """Settings that differ from the defaults of the package, by stage."""
    rows: dict[tuple[str, str], list[str]] = {}
    for artifact in run.done:
        for key, value in _changed(artifact).items():
            rows.setdefault((key, json.dumps(value)), []).append(artifact.title)
    table = [
        {"Setting": f"`{key}`", "Value": f"`{text}`", "Stages": ", ".join(titles)}
        for (key, text), titles in rows.items()
    ]
    return markdown(table, ("Setting", "Value", "Stages"))


def _changed(artifact: Artifact) -> dict[str, Any]:
    stage = artifact.manifest.stage if artifact.manifest else ""
    defaults = STAGES[stage]().model_dump(mode="json") if stage in STAGES else {}
    plain = _flat("", defaults)
    for task in artifact.settings.get("chat_eval", {}).get("tasks", {}):
        plain |= _flat(f".chat_eval.tasks.{task}", ChatTaskSettings().model_dump(mode="json"))
    return {
        key[1:]: value
        for key, value in _flat("", artifact.settings).items()
        if key and plain.get(key, ...) != value and ".mixture." not in key  # mixtures have a table of their own
    }
