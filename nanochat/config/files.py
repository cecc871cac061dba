"""The user's own files: which are read, and which a pattern means. The Snakefile asks, and so do the stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanochat.errors import ConfigError

COMPRESSED = (".gz", ".zst")
JSON_LINES = (".jsonl", ".ndjson")
JSON = (*JSON_LINES, ".json")
"""What may be named. Below a folder `.json` is left alone: most such files are settings, not text."""
PLAIN_TEXT = (
    ".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".bib", ".html", ".htm", ".xml", ".srt",
    ".csv", ".tsv", ".log", ".py", ".js", ".ts", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java",
    ".kt", ".rb", ".pl", ".php", ".sh", ".sql", ".r", ".jl", ".lua", ".hs", ".ml", ".scala", ".swift", ".css",
    ".yaml", ".yml", ".toml", ".ini", ".cfg", ".smk",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What patterns mean.

    Attributes:
        files: to be read; sorted, each once.
        others: number of files below named folders that are left alone, since they are no text.
    """

    files: tuple[str, ...]
    others: int


def content_suffix(path: Path) -> str:
    """The suffix that tells the kind of a file, in lower case, that of compression left out."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def find_files(patterns: Sequence[str], key: str) -> Found:
    """Files that are named or match a pattern, and text files below a named folder (hidden ones and .json left out).

    Args:
        patterns: as the user wrote them; `~` is the home folder.
        key: of the configuration, for errors.

    Raises:
        ConfigError: if a pattern finds nothing.
    """
    found: set[Path] = set()
    others: set[Path] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            below = {file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path))}
            files = {file for file in below if content_suffix(file) in (".parquet", *JSON_LINES, *PLAIN_TEXT)}
            others |= below - files
        elif path.is_file():
            files = {path}
        else:
            root = Path(path.anchor)
            files = {file for file in root.glob(str(path.relative_to(root))) if file.is_file()}
        if not files:
            raise ConfigError(f"config: {key}: {pattern} {_nothing(path)} (seen from {Path.cwd()})")
        found |= files
    if not found:
        raise ConfigError(f"config: {key} is empty; name at least one file or folder there")
    return Found(tuple(sorted(map(str, found))), len(others - found))


def _nothing(path: Path) -> str:
    """What is to be said of a pattern that finds nothing."""
    if not path.is_dir():
        return "is no file, no folder and matches nothing"
    if any(content_suffix(file) == ".json" for file in path.rglob("*.json*")):
        return f"holds no text file; .json files are read where they are named: write {path / '**' / '*.json'}"
    return "holds no text file"


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
