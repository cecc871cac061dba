"""docs/data-sets.md, from the catalogue: python -m nanochat.config.document_data_sets > docs/data-sets.md."""

import re
import sys

from nanochat.config.catalogue import Catalogue, Corpus, TaskEntry, load_catalogue

_HEAD = """# Data sets

Every data set the workflow knows, rendered from `nanochat/config/catalogue.yaml`, which is their only home.
`data.mixture`, the mixtures of `mid` and `sft`, `rl.task` and `chat_eval.tasks` name them (`docs/config.md`).
Text, conversations and a persona of your own need no entry here: see [own-data.md](own-data.md).

A file lies at `data/<place>/<file>`, one place for each source. `data.source` says where files come from:

* `world`: the embedded world, generated on this machine.
* `hub`: the public hubs, at the commits below. Where that is a branch, the first fetch decides: its commit is
  recorded in `datasets/<owner>/<name>/.revision`, and all later ones keep to it. `HF_ENDPOINT` names another hub,
  `HF_TOKEN` is your token. What your hub cache (`HF_HOME`, `HF_HUB_CACHE`) holds is linked instead of downloaded; with
  `HF_HUB_OFFLINE=1` it is all there is of data sets. (Plain files are not on the hub; they come from their addresses.)
* an address, `http://…` or `https://…`: a mirror that serves `datasets/<owner>/<name>/resolve/main/<file>`,
  `files/<name>` and `eval_bundle.zip` below it. It is taken for what it has: a plain file of its own, other than the
  digest below, is a warning, and is kept to from then on. No token is sent to it.
* a folder laid out like the hub: files are hard-linked, or copied to another file system.

Each download resumes where it was cut off or killed, is tried again with growing pauses where the server is busy, the
connection breaks or hardly a byte comes (fewer than 10 kB in a minute), and appears at its place only whole: of the
size and digest (SHA-256, or a git blob's SHA-1) that the hub states, or the SHA-256 below. A damaged one is fetched
again, three times at most. A plain file without a digest is trusted the first time; a later fetch that finds another
one is an error that says so. Before the first byte of a run, the sizes below are compared with the free space of every
disk that `data` and the links in it lead to.

What can be known of a file depends on its server. The hub, mirrors that state its digests, and S3 vouch for every byte.
An ordinary web server states none. A plain file from there is fetched twice, unless it is the one pinned below or the
one of the first time: the same bytes twice are taken for what the server has, different ones for damage. A data set's
file from there has to have its announced size, the same ETag (if any) before and after, and the looks of its format; a
changed byte inside of it cannot be noticed, nor can one in a plain file that a proxy spoils the same way every time.
For certainty, use the hub, or a mirror that states its digests. Where a server gives no strong ETag either, a download
that was cut off starts anew, since the rest might be that of another version.
"""

_LAYOUTS = {
    "arc": "`id, question, choices{text[], label[]}, answerKey`",
    "mmlu": "`question, subject, choices[4], answer` (number of the choice)",
    "gsm8k": "`question, answer` (`<<48/2=24>>` calculator marks, `#### 24` the result)",
    "humaneval": "`task_id, prompt, canonical_solution, test, entry_point`",
    "qa": "`question, answer`",
    "smoltalk": "`messages[]{role, content}`",
    "identity": "JSON lines, each a list of `{role, content}`",
    "conversations": "JSON lines of conversations",
    "spelling_bee": "a word list",
    "simple_spelling": "a word list",
}


def _size(count: int | None) -> str:
    if count is None:
        return "made here"
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _revision(revision: str) -> str:
    return f"`{revision}`"


def _corpus(name: str, corpus: Corpus) -> list[str]:
    if corpus.shards is None:
        files, size, revision = "`shard_00000.parquet` …", "made here", "–"
    else:
        each = corpus.shard_bytes or 0
        files = f"`shard_00000.parquet` … `shard_{corpus.shards - 1:05d}.parquet`, the last one for validation"
        size = f"{_size(each)} each, {_size(each * corpus.shards)} in all"
        revision = _revision(corpus.revision)
    return [f"`{name}`", f"`{corpus.repo}`", revision, files, size, corpus.licence, corpus.about]


def _files(task: TaskEntry) -> str:
    """The files of both splits, parts of one split as one pattern."""
    paths = []
    for split in (task.train, task.test):
        pattern = re.sub(r"-\d{5}-of-", "-*-of-", split[0]) if len(split) > 1 else "".join(split)
        if pattern and pattern not in paths:
            paths.append(pattern)
    return ", ".join(f"`{path.removeprefix('datasets/')}`" for path in paths)


def _task(name: str, task: TaskEntry) -> list[str]:
    used = [split for split, files in (("train", task.train), ("test", task.test)) if files]
    sizes = [_size(task.bytes[split]) for split in used if split in task.bytes]
    plain = all(path.startswith("files/") for path in (*task.train, *task.test))
    revision = "–" if plain or "world/" in _files(task) else _revision(task.revision)
    size = " + ".join(sizes) or ("see plain files" if plain and "words.txt" not in _files(task) else "made here")
    layout = _LAYOUTS[task.kind] + (f"; {task.size:,} items an epoch" if task.size else "")
    score = {"choice": "choice", "generate": "generated answer", None: "training only"}[task.metric]
    return [f"`{name}`", _files(task), revision, layout, size, score, task.licence, task.about]


def render(catalogue: Catalogue) -> str:
    """The text of docs/data-sets.md."""
    corpora = [_corpus(name, corpus) for name, corpus in catalogue.corpora.items()]
    tasks = [_task(name, task) for name, task in catalogue.tasks.items()]
    plain = [
        [
            f"`{path}`",
            entry.address,
            _size(entry.bytes) + (f", unpacked {_size(entry.unpacked_bytes)}" if entry.unpacked_bytes else ""),
            f"`{entry.sha256}`" if entry.sha256 else "none published: that of the first fetch is kept to",
            entry.licence,
            entry.about,
        ]
        for path, entry in catalogue.urls.items()
    ]
    parts = [
        _HEAD.strip(),
        "## Text for pretraining\n\nParquet files with a column of strings, `text`; below `datasets/<repository>/`.",
        _table(("name", "repository", "commit", "files", "size", "licence", "what it is"), corpora),
        "## Tasks: conversations for training, questions for evaluation\n\nThe size is that of train + test.",
        _table(("name", "files", "commit", "layout", "size", "scored by", "licence", "what it is"), tasks),
        "## Plain files",
        _table(("file", "address", "size", "SHA-256", "licence", "what it is"), plain),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render(load_catalogue()))
