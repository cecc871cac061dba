"""Where the numbers come from: machine, libraries, code, digests. Markdown tables, empty where nothing is known."""

from typing import Any

from nanochat.report.collect import Run
from nanochat.report.numbers import MISSING, size
from nanochat.report.tables import markdown


def environment(run: Run) -> str:
    """Hardware, libraries and code version; where stages differ, each value names its stages."""
    rows = []
    for section in ("hardware", "libraries", "code"):
        for name in dict.fromkeys(name for artifact in run.done for name in getattr(artifact.manifest, section)):
            values: dict[str, list[str]] = {}
            for artifact in run.done:
                recorded = getattr(artifact.manifest, section)
                if name in recorded:
                    values.setdefault(_environment_text(name, recorded[name]), []).append(artifact.title)
            if len(values) == 1:
                text = next(iter(values))
            else:
                text = "; ".join(f"{value} ({', '.join(titles)})" for value, titles in values.items())
            label = f"code {name}" if section == "code" else name.replace("_bytes", "").replace("_", " ")
            rows.append({"What": label, "Value": text})
    return markdown(rows, ("What", "Value"))


def _environment_text(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return size(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def digests(run: Run) -> str:
    """Digest and weights of every artifact: equal ones mean equal results."""
    rows = []
    for artifact in run.done:
        manifest = artifact.manifest
        if manifest is None:
            continue
        weights = manifest.files.get("model.safetensors")
        rows.append(
            {
                "Artifact": artifact.title,
                "Digest": f"`{manifest.digest[:16]}`",
                "SHA-256 of the weights": f"`{weights.sha256[:16]}`" if weights else MISSING,
                "Made (UTC)": manifest.created[:16].replace("T", " "),
            }
        )
    return markdown(rows, ("Artifact", "Digest", "SHA-256 of the weights", "Made (UTC)"))
