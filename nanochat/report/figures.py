"""Figures of the report: SVG without dates or random ids, so that equal artifacts give equal files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from nanochat.report.collect import CHECKPOINTS, Artifact, Run
from nanochat.report.numbers import duration, fraction, scaled
from nanochat.report.scores import stage_scores
from nanochat.report.tables import stage_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Okabe and Ito's palette, told apart by colour-blind readers too.
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8c8c8c"
_STAGE_COLOURS = {"base": _GREY, "mid": _BLUE, "sft": _ORANGE, "rl": _GREEN}
_WIDTH = 8.0  # inches
STYLE = {
    "svg.hashsalt": "nanochat",
    "svg.fonttype": "path",  # looks the same everywhere, whatever fonts there are
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Picture:
    """A written figure."""

    name: str
    """File name."""
    alt: str
    """What it shows, in words with numbers, for those who don't see it."""
    caption: str


@dataclass(frozen=True)
class _Panel:
    """One pair of axes: what is drawn, and its description."""

    draw: Callable[["Axes"], None]
    alt: str


def draw_all(run: Run, folder: Path) -> dict[str, Picture]:
    """Draw every figure there is data for into `folder`; name without suffix → picture."""
    import matplotlib as mpl

    pictures = {}
    with mpl.rc_context(STYLE):
        for key in CHECKPOINTS:
            panels = _training_panels(run.artifacts[key]) if key != "rl" else _rl_panels(run.artifacts[key])
            if panels:
                pictures[key] = _write_panels(panels, folder / f"{key}.svg", f"{key}: training curves")
        for name, draw in (("scores", _scores), ("time", _time)):
            picture = draw(run, folder / f"{name}.svg")
            if picture:
                pictures[name] = picture
    return pictures


def save(canvas: "Canvas", path: Path) -> None:
    """Write a figure as SVG, without what differs from time to time."""
    canvas.savefig(path, format="svg", metadata={"Date": None, "Creator": "nanochat"})


def _write_panels(panels: list[_Panel], path: Path, caption: str) -> Picture:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(_WIDTH if len(panels) > 1 else _WIDTH * 0.6, 2.7), layout="constrained")
    for axes, panel in zip(canvas.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel.draw(axes)
        axes.set_xlabel("step")
    save(canvas, path)
    return Picture(path.name, f"{caption}. " + " ".join(panel.alt for panel in panels), caption)


def _range_in_words(what: str, values: pd.Series, unit: str) -> str:
    last = f"{scaled(values.iloc[-1])} {unit}".strip()
    if len(values) == 1:
        return f"{what} {last} at step {values.index[0]:.0f}."
    first = scaled(values.iloc[0])
    return f"{what} from {first} to {last} between steps {values.index[0]:.0f} and {values.index[-1]:.0f}."


def _line(values: pd.Series, title: str, unit: str, colour: str, *, smooth: bool = False) -> _Panel:
    """A metric over steps; with `smooth` the raw values stay faint behind their running mean."""
    window = max(1, len(values) // 40) if smooth else 1
    shown = values.rolling(window, min_periods=1).mean()

    def draw(axes: "Axes") -> None:
        if window > 1:
            axes.plot(values.index, values, color=colour, alpha=0.25, linewidth=0.7)
        marker = "o" if len(values) <= 30 else None
        axes.plot(shown.index, shown, color=colour, linewidth=1.5, marker=marker, markersize=3)
        axes.set_title(f"{title} (mean of {window} values)" if window > 1 else title)
        axes.set_ylabel(unit)

    return _Panel(draw, _range_in_words(title, shown, unit if unit != title else ""))


def _training_panels(stage: Artifact) -> list[_Panel]:
    panels = []
    loss = stage.logged("loss")
    if len(loss):
        panels.append(_line(loss, "Training loss", "nats per token", _BLUE, smooth=True))
    for name, title, unit in (
        ("val_bpb", "Validation", "bits per byte"),
        ("val_loss", "Validation loss", "nats per token"),
    ):
        values = stage.logged(name)
        if len(values):
            panels.append(_line(values, title, unit, _ORANGE))
            break
    return panels


def _rl_panels(stage: Artifact) -> list[_Panel]:
    panels = []
    reward, solved = stage.logged("reward"), stage.logged("pass_at_1")
    if len(reward):
        panels.append(_line(reward, "Reward", "mean reward per answer", _BLUE, smooth=True))
    if len(solved):
        panels.append(_line(solved, "Held-out pass@1", "share solved", _ORANGE))
    length = stage.logged("response_tokens")
    if len(length):
        panels.append(_line(length, "Length", "tokens per answer", _PURPLE, smooth=True))
    return panels


def _scores(run: Run, path: Path) -> Picture | None:
    """Every task's score by stage, with one standard error to each side and its chance level."""
    from matplotlib.figure import Figure as Canvas

    scores = {stage: column for stage, column in stage_scores(run).items() if column}
    tasks = list(dict.fromkeys(name for column in scores.values() for name in column))
    if not tasks:
        return None
    parts = {
        name: "; ".join(dict.fromkeys(c[name].part for c in scores.values() if name in c and c[name].part))
        for name in tasks
    }
    labels = [f"{name}\n{parts[name]}" if parts[name] else name for name in tasks]
    canvas = Canvas(figsize=(_WIDTH, 1.1 + (0.45 if any(parts.values()) else 0.36) * len(tasks)), layout="constrained")
    axes = canvas.subplots()
    spread = {stage: 0.14 * (i - (len(scores) - 1) / 2) for i, stage in enumerate(scores)}
    words = []
    for stage, column in scores.items():
        known = [
            (tasks.index(name) + spread[stage], score) for name, score in column.items() if score.value is not None
        ]
        axes.errorbar(
            [score.value for _, score in known],
            [y for y, _ in known],
            xerr=[score.stderr or 0.0 for _, score in known],
            fmt="o",
            markersize=4,
            linewidth=1.2,
            color=_STAGE_COLOURS[stage],
            label=stage.upper(),
        )
        words += [
            f"{stage} {score.task} {fraction(score.value, 2)}{f' ({score.part})' if score.part else ''}"
            for _, score in known
        ]
    chances = [
        (tasks.index(name), score.chance)
        for column in scores.values()
        for name, score in column.items()
        if score.chance is not None
    ]
    if chances:
        axes.plot(
            [chance for _, chance in chances],
            [y for y, _ in chances],
            "|",
            color="black",
            markersize=12,
            label="chance",
        )
    axes.set_yticks(range(len(tasks)), labels)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.set_xlabel("score (accuracy; centred for aggregates), bars: one standard error")
    canvas.legend(loc="outside upper center", ncols=len(scores) + 1)
    save(canvas, path)
    caption = "Scores by stage"
    return Picture(path.name, f"{caption}: {', '.join(words)}.", caption)


def _time(run: Run, path: Path) -> Picture | None:
    """Time per kind of job, as bars."""
    from matplotlib.figure import Figure as Canvas

    spent = list(stage_seconds(run).values())
    if not spent:
        return None
    longest = max(seconds for _, seconds in spent)
    unit, divisor = ("hours", 3600) if longest >= 7200 else ("minutes", 60) if longest >= 120 else ("seconds", 1)
    canvas = Canvas(figsize=(_WIDTH, 0.8 + 0.26 * len(spent)), layout="constrained")
    axes = canvas.subplots()
    bars = axes.barh(range(len(spent)), [seconds / divisor for _, seconds in spent], color=_BLUE, height=0.7)
    axes.bar_label(bars, [duration(seconds) for _, seconds in spent], padding=3)
    axes.set_yticks(range(len(spent)), [title for title, _ in spent])
    axes.set_ylim(len(spent) - 0.4, -0.6)
    axes.set_xlim(0, 1.15 * longest / divisor or 1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(unit)
    save(canvas, path)
    caption = "Time per kind of job"
    return Picture(path.name, f"{caption}: {', '.join(f'{t} {duration(s)}' for t, s in spent)}.", caption)
