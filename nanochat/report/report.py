"""Write report.md and its figures from the artifacts of a run."""

import os
import re
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from nanochat.artifact import write_atomically
from nanochat.config.stages import ReportStage
from nanochat.report import answers, data, lineage, provenance, score_tables, summary, tables
from nanochat.report.collect import CHECKPOINTS, Run, collect
from nanochat.report.figures import Picture, draw_all
from nanochat.report.samples import embed

_STAGE_NAMES = {
    "base": "After pretraining (base)",
    "mid": "After midtraining (mid)",
    "sft": "After supervised fine-tuning (sft)",
    "rl": "After reinforcement learning (rl)",
}


def run(
    settings: ReportStage,
    *,
    out: Path,
    figures: Path,
    run_folder: Path,
    token_folders: Sequence[Path],
    command: str,
    sources: Sequence[Path] = (),
) -> None:
    """Write the report of a run; what is missing, damaged or unfinished is said in it.

    The text depends on the artifacts alone: the same folder gives the same bytes. Figures are complete before the
    report that shows them appears.

    Args:
        settings: title.
        out: the report, Markdown.
        figures: folder of the SVG files, replaced as a whole.
        run_folder: `results/<run>`.
        token_folders: one per shard that the base model was trained or validated on.
        command: what reproduces the run, one line or several.
        sources: folders that were made of the user's own text and conversations.
    """
    content = collect(run_folder, token_folders, sources)
    figures.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{figures.name}.", dir=figures.parent) as scratch:
        drawn = Path(scratch) / figures.name
        drawn.mkdir()
        pictures = draw_all(content, drawn)
        if figures.exists():
            figures.replace(Path(scratch) / "previous")
        drawn.replace(figures)
    write_atomically(out, render(content, settings, pictures, _link(figures, out.parent), command))


def _link(folder: Path, start: Path) -> str:
    return quote(Path(os.path.relpath(folder, start)).as_posix())


def render(content: Run, settings: ReportStage, pictures: dict[str, Picture], figures: str, command: str) -> str:
    """The report as Markdown.

    `figures` is the figures' folder as a link, relative to where the report will lie.
    """
    environment = Environment(
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(resources.files("nanochat.report").joinpath("report.md.j2").read_text())
    samples = [
        {"name": _STAGE_NAMES[key], "text": embed(content.artifacts[key].samples)}
        for key in CHECKPOINTS
        if content.artifacts[key].samples.strip()
    ]
    text = template.render(
        title=settings.report.title,
        warnings=[*content.warnings, *lineage.breaks(content)],
        run=content,
        tables=tables,
        data=data,
        provenance=provenance,
        scores=score_tables,
        summary=summary,
        samples=samples,
        answers=answers.before_and_after(content),
        curves=[pictures[key] for key in CHECKPOINTS if key in pictures],
        pictures=pictures,
        figures=figures,
        command=command.strip(),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def publish(report: Path, figures: Path, out: Path) -> None:
    """Copy a run's report to another place, such as the top of the project, with its figure links still right."""
    before, after = _link(figures, report.parent), _link(figures, out.parent)
    write_atomically(out, report.read_text().replace(f"]({before}/", f"]({after}/"))
