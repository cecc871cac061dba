"""The model card: README.md of an export, made from manifests and scores alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from nanochat.artifact import Manifest
from nanochat.config import OWN, PERSONA, load_catalogue
from nanochat.evaluate.scores import HEADLINES
from nanochat.model.config import GPTConfig
from nanochat.report.numbers import MISSING, count, duration, flops, fraction, items_of, number, scaled, with_error
from nanochat.report.scores import left_out_of

_UNKNOWN = "not recorded"
_OWN_DATA = "the user's own data; its licence is theirs to state"
_SCORED_BY = {
    "choice": "likeliest letter",
    "generate": "checked answer",
    "multiple_choice": "likeliest choice",
    "schema": "likeliest context",
    "language_modeling": "exact continuation",
}


@dataclass(frozen=True)
class Evaluation:
    """scores.json of one checkpoint.

    Attributes:
        stage: of the checkpoint.
        scores: a record for each task.
        summary: aggregates.
    """

    stage: str
    scores: tuple[dict[str, Any], ...]
    summary: dict[str, Any]

    @property
    def headline(self) -> str | None:
        """The aggregate in words: `CORE 0.014 ± 0.043 (12 of 22 tasks, at most 20 items each)`."""
        for key, name in HEADLINES.items():
            entry = self.summary.get(key)
            if isinstance(entry, dict) and number(entry.get("value")) is not None:
                value = with_error(fraction(entry["value"]), entry.get("stderr"))
                part = left_out_of(entry)
                return f"{name[0].upper()}{name[1:]} {value}" + (f" ({part})" if part else "")
        return None

    @property
    def bits_per_byte(self) -> str | None:
        """`2.052 bits per byte of validation text (131,072 tokens)`, where it was measured."""
        measured, tokens = (
            found if isinstance(found := self.summary.get(name), dict) else {} for name in ("bpb", "bpb_tokens")
        )
        if number(measured.get("val")) is None:
            return None
        much = f" ({count(tokens['val'])} tokens)" if tokens.get("val") else ""
        return f"{fraction(measured['val'])} bits per byte of validation text{much}"

    @property
    def rows(self) -> list[str]:
        """A row of the table for each task."""
        return [
            " | ".join(
                (
                    str(score.get("task", MISSING)),
                    _SCORED_BY.get(str(score.get("metric")), str(score.get("metric", MISSING))),
                    with_error(fraction(score.get("value")), score.get("stderr")),
                    fraction(score.get("chance"), 2),
                    items_of(score.get("items"), score.get("available")),
                )
            )
            for score in self.scores
        ]


def _training(chain: Sequence[Manifest]) -> list[str]:
    """A row of the table for each stage."""
    return [
        " | ".join(
            (
                manifest.stage,
                count(manifest.steps),
                scaled(manifest.tokens),
                flops(manifest.flops),
                duration(manifest.wall_seconds),
                _device(manifest.hardware),
            )
        )
        for manifest in chain
    ]


def _device(hardware: dict[str, Any]) -> str:
    if hardware.get("devices"):
        return f"{hardware['devices']} × {hardware.get('device', MISSING)}"
    return f"{hardware.get('cores', MISSING)} cores of {hardware['cpu']}" if "cpu" in hardware else MISSING


def _data(chain: Sequence[Manifest]) -> list[tuple[str, str, str]]:
    """(stage, data set, licence as its publisher states it) of all data the checkpoints were trained on."""
    catalogue = load_catalogue()
    rows = []
    for manifest in chain:
        if manifest.stage == "base":
            parts = [name.split("/") for name in manifest.inputs]
            # train/<corpus>/<shard>
            names = dict.fromkeys(part[1] if len(part) == 3 else _UNKNOWN for part in parts if part[0] == "train")
            known = {_UNKNOWN: MISSING} | {name: entry.licence for name, entry in catalogue.corpora.items()}
        else:
            section = manifest.settings.get(manifest.stage, {})
            names = dict.fromkeys([section["task"]] if "task" in section else section.get("mixture", {}))
            known = {name: entry.licence for name, entry in catalogue.tasks.items()}
        known |= dict.fromkeys((OWN, PERSONA), _OWN_DATA)
        rows += [(manifest.stage, name, known.get(name, _OWN_DATA)) for name in names]
    return rows


def model_card(
    name: str, config: GPTConfig, chain: Sequence[Manifest], evaluations: Sequence[Evaluation], dtype: str
) -> str:
    """The text of README.md.

    Args:
        name: title.
        config: shape of the model.
        chain: manifests of the checkpoints it was trained through, first to last.
        evaluations: of some of them.
        dtype: type the weights are stored in.
    """
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    template = resources.files("nanochat.export").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    last = chain[-1]
    parameters = last.metrics.get("parameters")
    return environment.from_string(template).render(
        name=name,
        config=config,
        stage=last.stage,
        chats=last.stage != "base",
        modern=config.arch == "modern",
        dtype=dtype,
        parameters=scaled(parameters.get("total") if isinstance(parameters, dict) else None),
        training=_training(chain),
        whole=chain[0].stage == "base",
        data=_data(chain),
        evaluations=evaluations,
        unevaluated=last.stage not in [one.stage for one in evaluations],
        code=last.code,
        digest=last.digest,
    )
