"""Make the embedded world: every file that the workflow otherwise fetches from the public hubs."""

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Protocol

from nanochat.data.world import files
from nanochat.data.world.bundle import ITEMS, write_bundle
from nanochat.data.world.dialogue import dialogue_rows
from nanochat.data.world.documents import documents
from nanochat.data.world.facts import World, build_world
from nanochat.data.world.functions import all_functions
from nanochat.data.world.identity import Identity, identity_conversations
from nanochat.data.world.problems import make_problem
from nanochat.data.world.questions import SUBJECTS, choice_rows, fact_rows, subject_rows
from nanochat.data.world.spelling import load_words
from nanochat.errors import DataError

logger = logging.getLogger(__name__)

VALIDATION_SHARE = 0.05
# Rows of the task files at items = 1.0.
SIZES = {
    "word_problems": (6000, 400),
    "facts": (2400, 400),
    "choice": (3000, 300, 400),
    "subjects": (3000, 400),
    "functions": (400, 60),
    "dialogue": (2500, 200),
    "identity": (300,),
}
DEV_PER_SUBJECT = 5


class Dials(Protocol):
    """What `generate` reads of `nanochat.config.WorldSettings`."""

    seed: int
    people: int
    text_megabytes: float
    train_shards: int
    items: float


def generate(settings: Dials, out: Path, identity: Identity | None = None) -> dict[str, Any]:
    """Write the whole world below `out`.

    The same settings give byte-identical files. Splits go by hash of what is asked, so other dials move no item from
    test to training.

    Args:
        settings: the dials of the world.
        out: an existing, empty directory.
        identity: what the model knows about itself; the world's own by default.

    Returns:
        For each file, by its path below `out`, its `documents` or `items` and its `bytes`; under `text`, the documents
        of each kind.

    Raises:
        DataError: if `out` is not an empty directory.
    """
    if not out.is_dir() or any(out.iterdir()):
        raise DataError(f"world: {out} is not an empty directory; make it, or move away what lies in it")
    world = build_world(settings.seed, settings.people)
    counts = _write_text(world, settings, out / "datasets/world/text")
    report: dict[str, Any] = {"text": counts}
    for path, documents_written in counts.pop("shards").items():
        report[path] = {"documents": documents_written}
    for path, items in {
        **_write_tasks(world, settings, out / "datasets/world"),
        **_write_rest(world, settings, identity, out),
    }.items():
        report[path] = {"items": items}
    for path, entry in report.items():
        if path != "text":
            entry["bytes"] = (out / path).stat().st_size
    logger.info("world: %d files, %d documents of text", len(report) - 1, counts["documents"])
    return report


def _write_text(world: World, settings: Dials, folder: Path) -> dict[str, Any]:
    kinds: dict[str, int] = {}
    texts: list[str] = []
    for kind, text in documents(world, settings.seed, round(settings.text_megabytes * 1e6)):
        kinds[kind] = kinds.get(kind, 0) + 1
        texts.append(text)
    Random(f"{settings.seed}|shuffle").shuffle(texts)
    validation = max(1, round(len(texts) * VALIDATION_SHARE))
    train = texts[validation:]
    # A document told twice must not be a validation document too.
    seen = set(train)
    kept = [text for text in texts[:validation] if text not in seen]
    bounds = [len(train) * index // settings.train_shards for index in range(settings.train_shards + 1)]
    parts: list[Sequence[str]] = [train[start:end] for start, end in pairwise(bounds)]
    shards = {}
    for index, part in enumerate([*parts, kept]):
        path = folder / f"shard_{index:05d}.parquet"
        name = f"datasets/world/text/{path.name}"
        shards[name] = files.write_table(path, files.TEXT, [{"text": text} for text in part])
    return {"documents": len(train) + len(kept), "kinds": dict(sorted(kinds.items())), "shards": shards}


def _write_tasks(world: World, settings: Dials, folder: Path) -> dict[str, int]:
    def sizes(task: str) -> list[int]:
        return [max(8, round(size * settings.items)) for size in SIZES[task]]

    people = tuple(person.name for person in world.people)
    tables: dict[str, tuple[Any, list[dict[str, Any]]]] = {}
    for part, count in zip(("train", "test"), sizes("word_problems")):
        tables[f"word_problems/main/{part}"] = (
            files.QUESTION_ANSWER,
            _problem_rows(settings.seed, people, count, part),
        )
    for part, count in zip(("train", "test"), sizes("facts")):
        tables[f"facts/main/{part}"] = (files.QUESTION_ANSWER, fact_rows(world, count, test=part == "test"))
    for part, count in zip(("train", "validation", "test"), sizes("choice")):
        tables[f"choice/choice/{part}"] = (files.ARC, choice_rows(world, count, part))
    for part, count in zip(("auxiliary_train", "test"), sizes("subjects")):
        tables[f"subjects/all/{part}"] = (files.MMLU, subject_rows(world, count, part))
    tables["subjects/all/dev"] = (files.MMLU, subject_rows(world, DEV_PER_SUBJECT * len(SUBJECTS), "dev"))
    for part, count in zip(("train", "test"), sizes("functions")):
        rows = _function_rows(settings.seed, count, part)
        tables[f"functions/openai_humaneval/{part}"] = (files.HUMANEVAL, rows)
    for part, count in zip(("train", "test"), sizes("dialogue")):
        rows = dialogue_rows(world, settings.seed, count, test=part == "test")
        tables[f"dialogue/data/{part}"] = (files.SMOLTALK, rows)
    written = {}
    for name, (schema, rows) in tables.items():
        path = folder / f"{name}-00000-of-00001.parquet"
        written[f"datasets/world/{name}-00000-of-00001.parquet"] = files.write_table(path, schema, rows)
    return written


def _problem_rows(seed: int, people: tuple[str, ...], count: int, part: str) -> list[dict[str, str]]:
    rng = Random(f"{seed}|word_problems|{part}")
    found: dict[str, str] = {}
    while len(found) < count:
        problem = make_problem(rng, people, test=part == "test")
        found.setdefault(problem.question, problem.answer)
    return [{"question": question, "answer": answer} for question, answer in found.items()]


def _function_rows(seed: int, count: int, part: str) -> list[dict[str, str]]:
    rng = Random(f"{seed}|functions|{part}")
    variants = [(f, name) for f in all_functions() if f.test == (part == "test") for name in f.names]
    rng.shuffle(variants)
    rows = []
    for index, (function, name) in enumerate(variants[:count]):
        rows.append(
            {
                "task_id": f"World/{part}/{index}",
                "prompt": function.prompt(name, example=rng.random() < 0.5),
                "entry_point": name,
                "canonical_solution": function.solution,
                "test": function.checks(rng),
            }
        )
    return rows


def _write_rest(world: World, settings: Dials, identity: Identity | None, out: Path) -> dict[str, int]:
    count = max(8, round(SIZES["identity"][0] * settings.items))
    conversations = identity_conversations(settings.seed, count, identity)
    written = {
        "files/words.txt": files.write_words(out / "files/words.txt", load_words()),
        "files/identity_conversations.jsonl": files.write_conversations(
            out / "files/identity_conversations.jsonl", conversations
        ),
    }
    bundle = write_bundle(world, settings.seed, max(16, round(ITEMS * settings.items)), out / "eval_bundle")
    written.update({f"eval_bundle/{name}": items for name, items in bundle.items()})
    return written
