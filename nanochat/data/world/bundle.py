"""The evaluation bundle: CORE-format tasks about the world, on what the training data never asks."""

import csv
import io
import json
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from nanochat.data.world.facts import FORMS, Fact, World
from nanochat.data.world.questions import WORLD_KINDS, arrange, gold_positions, rounds, sum_item, wrong_choices
from nanochat.data.world.spelling import load_words
from nanochat.data.world.splits import is_test_word
from nanochat.data.world.stories import GIVE, TAKE, Scene, give, hide, paint, walk

Item = dict[str, Any]


class BundleTask(NamedTuple):
    """One task of the bundle, as core.yaml and eval_meta_data.csv describe it."""

    label: str
    folder: str
    kind: str  # multiple_choice, schema or language_modeling
    shots: int
    baseline: int  # accuracy of guessing, in percent
    description: str


TASKS = (
    BundleTask("world_facts_mc", "world_knowledge", "multiple_choice", 3, 25,
               "Questions about held-out people, towns, things and animals, four choices of the same type."),
    BundleTask("world_cloze", "world_knowledge", "language_modeling", 0, 0,
               "The last word of a sentence about a held-out entity, in forms that training uses for others only."),
    BundleTask("world_schema", "language_understanding", "schema", 0, 50,
               "Somebody gives something to somebody or takes it: which of the two had it afterwards?"),
    BundleTask("story_last_word", "language_understanding", "language_modeling", 0, 0,
               "The last word of a short story with held-out people and things, decided by what happened in it."),
    BundleTask("opposites_mc", "language_understanding", "multiple_choice", 3, 25,
               "Opposites that training text tells but never asks, four choices."),
    BundleTask("sums_mc", "symbolic_problem_solving", "multiple_choice", 3, 25,
               "Sums, differences, products and quotients of operand pairs that occur nowhere in training."),
    BundleTask("spelling_cloze", "symbolic_problem_solving", "language_modeling", 0, 0,
               "The letters of words that are spelled nowhere in training."),
)  # fmt: skip
HEADER = (
    "Eval Task", "Task Category", "Task Type", "#shots", "#datapoints", "Random baseline", "Centered Metric?",
    "Description",
)  # fmt: skip
ITEMS = 400


def bundle_items(world: World, seed: int, count: int) -> dict[str, list[Item]]:
    """Up to `count` items of every task, by label."""
    facts = [fact for fact in world.by_kind(*WORLD_KINDS) if fact.test]
    opposites = [fact for fact in world.by_kind("opposite") if fact.test]
    return {
        "world_facts_mc": _multiple_choice(f"{seed}|facts", facts, count),
        "world_cloze": _clozes(facts, count),
        "world_schema": _schemas(world, Random(f"{seed}|schema"), count),
        "story_last_word": _stories(world, Random(f"{seed}|last word"), count),
        "opposites_mc": _multiple_choice(f"{seed}|opposites", opposites, count),
        "sums_mc": _sums(Random(f"{seed}|sums"), count),
        "spelling_cloze": _spellings(Random(f"{seed}|spelling"), count),
    }


def _multiple_choice(seed: str, facts: list[Fact], count: int) -> list[Item]:
    rng = Random(seed)
    items: list[Item] = []
    for (number, fact, question), gold in zip(rounds(facts), gold_positions(seed, count)):
        if number >= len(FORMS[fact.attribute].questions):
            continue  # every question once: more items would not be more evidence
        choices = arrange(fact.value, wrong_choices(rng, fact), gold)
        items.append({"query": f"Question: {question}\nAnswer:", "choices": choices, "gold": gold})
    return items


def _clozes(facts: list[Fact], count: int) -> list[Item]:
    items = []
    for number, fact, _ in rounds(facts):
        forms = FORMS[fact.attribute].clozes
        if len(items) >= count or number >= 2:
            break
        if number < len(forms):
            sentence = fact.tell(forms[number])
            items.append({"context": sentence.removesuffix(f" {fact.value}."), "continuation": fact.value})
    return items


def _schemas(world: World, rng: Random, count: int) -> list[Item]:
    scene = Scene(world, rng, test=True)
    items = []
    for index in range(count):
        p, q, thing, *_ = scene.cast()
        given = index % 2 == 0
        event = f"{p.name} {rng.choice(GIVE if given else TAKE).format(x='the ' + thing, r=q.name)}. After that,"
        order = (p, q) if rng.random() < 0.5 else (q, p)
        options = [f"{event} {person.name}" for person in order]
        gold = order.index(q if given else p)
        items.append({"context_options": options, "continuation": f"had the {thing}.", "gold": gold})
    return items


def _stories(world: World, rng: Random, count: int) -> list[Item]:
    makers, scene = (hide, give, walk, paint), Scene(world, rng, test=True)
    items = []
    for index in range(count):
        context, _, last = makers[index % len(makers)](scene).rpartition(" ")
        items.append({"context": context, "continuation": last.removesuffix(".")})
    return items


def _sums(rng: Random, count: int) -> list[Item]:
    found: dict[str, Item] = {}
    positions = gold_positions("sums", count)
    for _ in range(count * 50):
        if len(found) >= count:
            break
        question, result, wrong = sum_item(rng, test=True)
        gold = positions[len(found)]
        item = {"query": f"Question: {question}\nAnswer:", "choices": arrange(result, wrong, gold), "gold": gold}
        found.setdefault(question, item)
    return list(found.values())


def _spellings(rng: Random, count: int) -> list[Item]:
    words = [word for word in load_words() if is_test_word(word)]
    return [
        {"context": f"The word {word} is spelled", "continuation": ",".join(word)}
        for word in rng.sample(words, min(count, len(words)))
    ]


def write_bundle(world: World, seed: int, count: int, out: Path) -> dict[str, int]:
    """Write core.yaml, eval_meta_data.csv and eval_data/ into the directory `out`; returns items per file."""
    items = bundle_items(world, seed, count)
    yaml_lines, written = ["icl_tasks:"], {}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(HEADER)
    for task in TASKS:
        rows = items[task.label]
        uri = f"{task.folder}/{task.label}.jsonl"
        path = out / "eval_data" / uri
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="\n")
        written[f"eval_data/{uri}"] = len(rows)
        yaml_lines += [
            f"- label: {task.label}",
            f"  dataset_uri: {uri}",
            "  num_fewshot:",
            f"  - {task.shots}",
            f"  icl_task_type: {task.kind}",
        ]
        category, kind = task.folder.replace("_", " "), task.kind.replace("_", " ")
        writer.writerow([task.label, category, kind, task.shots, len(rows), task.baseline, "", task.description])
    (out / "core.yaml").write_text("\n".join(yaml_lines) + "\n", encoding="utf-8", newline="\n")
    (out / "eval_meta_data.csv").write_text(table.getvalue(), encoding="utf-8", newline="\n")
    return written
