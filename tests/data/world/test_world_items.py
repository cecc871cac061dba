"""The items are right: answers, golds, calculations, programs, conversations."""

import csv
import json
import re
from collections import Counter
from random import Random

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.data.world import tables
from nanochat.data.world.arithmetic import calculate, sample_pair
from nanochat.data.world.bundle import HEADER, TASKS
from nanochat.data.world.documents import MIX
from nanochat.data.world.facts import FORMS, build_world, names
from nanochat.data.world.functions import all_functions
from nanochat.data.world.problems import FAMILIES, make_problem
from nanochat.data.world.sentences import PERSON_FORMS
from nanochat.data.world.splits import is_test_entity, is_test_pair
from nanochat.data.world.stories import GIVE, TAKE

PEOPLE = tuple(name for name, _ in names(96))


# --- the world


def test_every_person_fact_has_at_least_eight_forms_and_is_told_in_many(made):
    assert all(len(set(forms.statements)) >= 8 for forms in PERSON_FORMS.values())
    sentences = {sentence for text in made.texts() for sentence in re.split(r"(?<=[.!?])\s+", text)}
    for fact in made.world.by_kind("person"):
        told = sum(fact.tell(form) in sentences for form in FORMS[fact.attribute].statements)
        assert told >= 4, (fact.key, told)


def test_about_a_quarter_of_the_people_is_held_out(made):
    held_out = [person.name for person in made.world.people if person.test]
    assert 0.15 < len(held_out) / len(made.world.people) < 0.35
    assert held_out == [name for name in PEOPLE if is_test_entity("person", name)]


def test_more_people_move_nobody_between_the_splits():
    few, many = build_world(1, 20), build_world(1, 200)
    assert [(p.name, p.test) for p in few.people] == [(p.name, p.test) for p in many.people[:20]]


def test_everybody_has_a_friend_and_is_nobodys_own(made):
    friends = [person.values["friend"] for person in made.world.people]
    assert sorted(friends) == sorted(PEOPLE)
    assert all(person.values["friend"] != person.name for person in made.world.people)


def test_names_and_words_are_unambiguous():
    everybody = [name for name, _ in names(400)]
    assert len(set(everybody)) == 400
    assert not set(everybody) & set(tables.PET_NAMES)
    words = [word for pair in tables.OPPOSITES for word in pair]
    assert len(words) == len(set(words))


def test_the_shares_of_the_mix_are_kept(made):
    assert sum(share for _, share, _ in MIX) == pytest.approx(1.0)
    assert set(made.counts["text"]["kinds"]) == {kind for kind, _, _ in MIX}


# --- numbers


@given(st.integers(0, 10**6), st.sampled_from("+-*/"), st.booleans())
def test_pairs_belong_to_their_split(seed, operation, test):
    a, b = sample_pair(Random(seed), operation, test=test)
    assert is_test_pair(operation, a, b) == test
    assert calculate(operation, a, b) >= 0


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_number_fact_is_in_one_split_in_every_guise(a, b):
    assert len({is_test_pair("+", a, b), is_test_pair("+", b, a), is_test_pair("-", a + b, a)}) == 1
    assert len({is_test_pair("*", a, b), is_test_pair("*", b, a), is_test_pair("/", a * b, b)}) == 1


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([row[0] for row in FAMILIES]), st.booleans())
def test_word_problems_calculate_right(seed, family, test):
    problem = make_problem(Random(seed), PEOPLE, test=test, family=family)
    marks = re.findall(r"(\d+) ([+*/-]) (\d+) = <<(\d+)([+*/-])(\d+)=(\d+)>>(\d+)", problem.answer)
    assert len(marks) == problem.steps == dict((row[0], row[1]) for row in FAMILIES)[family]
    for a, sign, b, *again, result, shown in marks:
        assert again == [a, sign, b] and result == shown
        assert calculate(sign, int(a), int(b)) == int(result)
    assert problem.answer.endswith(f"\n#### {marks[-1][-1]}")
    assert any(is_test_pair(sign, int(a), int(b)) for a, sign, b, *_ in marks) == test
    # All numbers of the calculations are given in the question or were calculated before.
    known = set(re.findall(r"\d+", problem.question))
    for a, _, b, *_, result, _ in marks:
        assert {a, b} <= known
        known.add(result)
    assert "<<" not in problem.prose and problem.prose.endswith(f"The answer is {marks[-1][-1]}.")


def test_family_weights_are_shares_over_one_to_three_steps():
    assert sum(weight for _, _, weight, _ in FAMILIES) == pytest.approx(1.0)
    assert {steps for _, steps, _, _ in FAMILIES} == {1, 2, 3}


def test_distractors_can_be_turned_off():
    asides = re.compile(r"years old|chairs in the room|in the morning|sunny day|sings a song")
    plain = [make_problem(Random(seed), PEOPLE, test=False, distractors=0.0).question for seed in range(300)]
    mixed = [make_problem(Random(seed), PEOPLE, test=False, distractors=1.0).question for seed in range(300)]
    assert not any(asides.search(question) for question in plain)
    assert sum(bool(asides.search(question)) for question in mixed) > 150


# --- questions


def truth(made) -> dict[str, str]:
    return {fact.tell(form): fact.value for fact in made.world.facts for form in FORMS[fact.attribute].questions}


@pytest.mark.parametrize("part", ["train", "test"])
def test_short_answers_are_true_words(made, part):
    known = truth(made)
    rows = made.rows(f"facts/main/{part}")
    assert len({row["question"] for row in rows}) == len(rows)
    for row in rows:
        assert known[row["question"]] == row["answer"]
        assert " " not in row["answer"]


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_choices_are_four_with_one_right_and_no_favourite_letter(made, part):
    known = truth(made)
    rows = made.rows(f"choice/choice/{part}")
    for row in rows:
        texts = row["choices"]["text"]
        assert row["choices"]["label"] == ["A", "B", "C", "D"]
        assert len(set(texts)) == 4
        right = texts["ABCD".index(row["answerKey"])]
        assert right == known[row["question"]] if row["question"] in known else right in row["question"]
    golds = Counter(row["answerKey"] for row in rows)
    assert max(golds.values()) - min(golds.values()) <= 1
    assert len({row["id"] for row in rows}) == len(rows)
    assert part == "train" or all(row["question"] in known for row in rows)


@pytest.mark.parametrize(("part", "least"), [("auxiliary_train", 300), ("test", 40), ("dev", 5)])
def test_every_subject_is_asked(made, part, least):
    known = truth(made)
    rows = made.rows(f"subjects/all/{part}")
    counts = Counter(row["subject"] for row in rows)
    assert set(counts) == {
        "people", "towns", "animals", "objects", "calendar", "opposites", "plurals", "arithmetic", "spelling"
    }  # fmt: skip
    assert min(counts.values()) >= least
    for row in rows:
        assert len(set(row["choices"])) == 4
        right = row["choices"][row["answer"]]
        if row["question"] in known:
            assert right == known[row["question"]]
        elif row["subject"] == "arithmetic":
            a, operation, b = re.search(r"(\d+) (\D+) (\d+)", row["question"]).groups()
            sign = {"plus": "+", "minus": "-", "times": "*", "divided by": "/"}.get(operation, operation)
            assert calculate(sign, int(a), int(b)) == int(right)
        elif "spelled" in row["question"]:
            assert ",".join(right) in row["question"]
        else:
            assert len(row["question"].rstrip("?").split()[-2]) == int(right)
    golds = Counter(row["answer"] for row in rows)
    assert max(golds.values()) - min(golds.values()) <= 1


# --- functions


def passes(program: str, check: str, name: str) -> bool:
    scope: dict = {}
    exec(f"{program}\n{check}", scope)
    try:
        scope["check"](scope[name])
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("part", ["train", "test"])
def test_solutions_pass_and_wrong_returns_fail(made, part):
    rows = made.rows(f"functions/openai_humaneval/{part}")
    assert len({row["task_id"] for row in rows}) == len({row["entry_point"] for row in rows}) == len(rows)
    for row in rows:
        name, prompt, check = row["entry_point"], row["prompt"], row["test"]
        assert f"def {name}(" in prompt
        assert passes(prompt + row["canonical_solution"], check, name), row
        assert not passes(f"{prompt}    return None\n", check, name), row
        for expected in re.findall(r"== (.*)", check):
            assert not passes(f"{prompt}    return {expected}\n", check, name), row


def test_function_names_are_never_shared():
    owners: dict[str, set[str]] = {}
    for function in all_functions():
        for name in function.names:
            owners.setdefault(name, set()).add(f"{function.family}|{function.variant}")
    assert [name for name, keys in owners.items() if len(keys) > 1] == []


# --- dialogues


@pytest.mark.parametrize("part", ["train", "test"])
def test_dialogues_alternate_and_say_something(made, part):
    rows = made.rows(f"dialogue/data/{part}")
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and roles
        assert all(message["content"].strip() for message in row["messages"])
    assert len({row["source"] for row in rows}) >= 10
    assert sum(len(row["messages"]) > 2 for row in rows) > 0.25 * len(rows)


def test_dialogue_answers_are_true(made):
    replies = {
        fact.tell(form): fact.tell(FORMS[fact.attribute].reply)
        for fact in made.world.facts
        for form in FORMS[fact.attribute].questions
    }
    checked = 0
    for row in made.rows("dialogue/data/train"):
        for user, assistant in zip(row["messages"][::2], row["messages"][1::2]):
            if user["content"] in replies:
                assert assistant["content"] == replies[user["content"]]
                checked += 1
    assert checked > 500


# --- the bundle


def test_the_bundle_is_described_like_the_public_one(made):
    folder = made.root / "eval_bundle"
    tasks = yaml.safe_load((folder / "core.yaml").read_text())["icl_tasks"]
    with (folder / "eval_meta_data.csv").open() as file:
        reader = csv.DictReader(file)
        meta = {row["Eval Task"]: row for row in reader}
        assert tuple(reader.fieldnames) == HEADER
    assert [task["label"] for task in tasks] == list(meta) == [task.label for task in TASKS]
    for task in tasks:
        items = [json.loads(line) for line in (folder / "eval_data" / task["dataset_uri"]).read_text().splitlines()]
        row = meta[task["label"]]
        assert len(items) == int(row["#datapoints"]) >= 160
        assert task["num_fewshot"] == [int(row["#shots"])]
        options = {"multiple_choice": "choices", "schema": "context_options"}.get(task["icl_task_type"])
        if options is None:
            assert all(item["context"] and item["continuation"] for item in items)
            assert float(row["Random baseline"]) == 0
        else:
            counts = {len(set(item[options])) for item in items}
            assert counts == {round(100 / float(row["Random baseline"]))}
            golds = Counter(item["gold"] for item in items)
            assert set(golds) == set(range(*counts))
            assert max(golds.values()) < 0.6 * len(items) / len(golds) * 2


def test_the_public_header_is_ours(made, shared_hub):
    path = shared_hub / "eval_bundle/eval_meta_data.csv"
    if not path.is_file():
        pytest.skip("../shared/hub is not there")
    assert path.read_text().splitlines()[0] == ",".join(HEADER)


def test_whoever_was_given_the_thing_had_it(made):
    path = made.root / "eval_bundle/eval_data/language_understanding/world_schema.jsonl"
    give, take = ({form.split()[0] for form in forms} for forms in (GIVE, TAKE))
    for item in map(json.loads, path.read_text().splitlines()):
        first, verb, *_ = item["context_options"][0].split()
        second = re.search(r"(?:to|from) (\w+)\. After", item["context_options"][0]).group(1)
        assert verb in give | take
        assert item["context_options"][item["gold"]].endswith(second if verb in give else first)


def test_the_last_words_of_stories_follow_from_them(made):
    path = made.root / "eval_bundle/eval_data/language_understanding/story_last_word.jsonl"
    for item in map(json.loads, path.read_text().splitlines()):
        assert re.search(rf"\b{item['continuation']}\b", item["context"]), item
