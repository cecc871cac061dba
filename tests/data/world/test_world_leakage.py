"""No test item is told, asked or calculated in any training file."""

import json
import re

import pytest

from nanochat.data.world.bundle import TASKS
from nanochat.data.world.facts import FORMS
from nanochat.data.world.splits import is_test_pair, is_test_word

SIGNS = {"plus": "+", "minus": "-", "times": "*", "divided by": "/"}


@pytest.fixture(scope="module")
def asked(training_text) -> str:
    """The lines of the training text that ask something."""
    return "\n".join(sorted({line for line in training_text.split("\n") if "?" in line}))


def jsonl(made, label):
    task = next(task for task in TASKS if task.label == label)
    path = made.root / f"eval_bundle/eval_data/{task.folder}/{label}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_probe_finds_what_is_in_training(made, asked, training_text):
    # The other tests here would pass on an empty text; this one would not.
    facts = [fact for fact in made.world.by_kind("person") if not fact.test]
    forms = [fact.tell(form) for fact in facts for form in FORMS[fact.attribute].questions]
    assert sum(question in asked for question in forms) > 0.9 * len(forms)
    assert "12 + " in training_text


def test_no_question_about_a_held_out_entity_is_asked(made, asked):
    held_out = [fact for fact in made.world.facts if fact.test]
    assert len(held_out) > 250
    leaked = [
        question
        for fact in held_out
        for question in (fact.tell(form) for form in FORMS[fact.attribute].questions)
        if question in asked
    ]
    assert leaked == []


def test_no_cloze_about_a_held_out_entity_is_told(made, training_text):
    leaked = [
        sentence
        for fact in made.world.facts
        if fact.test
        for sentence in (fact.tell(form) for form in FORMS[fact.attribute].clozes)
        if sentence in training_text
    ]
    assert leaked == []


@pytest.mark.parametrize(
    "name", ["facts/main/test", "word_problems/main/test", "choice/choice/test", "subjects/all/test"]
)
def test_no_test_question_is_asked(made, asked, name):
    questions = {row["question"] for row in made.rows(name)}
    assert [question for question in questions if question in asked] == []


def test_validation_choices_are_not_training_choices(made):
    train, validation = (
        {row["id"].rpartition("|")[0] for row in made.rows(f"choice/choice/{part}")} for part in ("train", "validation")
    )
    assert not train & validation


def test_few_shot_questions_are_not_training_questions(made):
    dev, train = ({row["question"] for row in made.rows(f"subjects/all/{part}")} for part in ("dev", "auxiliary_train"))
    assert not dev & train


def test_no_held_out_operand_pair_is_calculated(training_text):
    # "x * 3 + 4" is no sum of 3 and 4, hence the look-behind.
    pattern = r"(?<![\d*] )(?<!\d)(\d+) ?([+*/-]|plus|minus|times|divided by) ?(\d+)(?!\d)"
    pairs = {(SIGNS.get(sign, sign), int(a), int(b)) for a, sign, b in re.findall(pattern, training_text)}
    assert len(pairs) > 1000
    assert [pair for pair in sorted(pairs) if is_test_pair(*pair)] == []


def test_every_test_problem_needs_a_held_out_pair(made):
    for row in made.rows("word_problems/main/test"):
        marks = re.findall(r"<<(\d+)([+*/-])(\d+)=\d+>>", row["answer"])
        assert any(is_test_pair(sign, int(a), int(b)) for a, sign, b in marks), row


def test_no_test_word_is_spelled_or_counted(training_text):
    spelled = {match.replace(",", "") for match in re.findall(r"\b(?:[a-z],){2,}[a-z]\b", training_text)}
    counted = set(
        re.findall(r"The letter [a-z] is in (\w+)|How many '[a-z]' are in '(\w+)'|'(\w+)'\.count", training_text)
    )
    words = spelled | {word for match in counted for word in match if word}
    assert len(spelled) > 3000
    assert [word for word in sorted(words) if is_test_word(word)] == []


def test_no_test_function_is_written(made, training_text):
    for row in made.rows("functions/openai_humaneval/test"):
        assert not re.search(rf"(def|function|it) {row['entry_point']}\b", training_text)
        body = row["canonical_solution"].strip()
        assert not re.search(re.escape(body) + r"(?![\w.])", training_text), row


def test_no_test_story_is_told(made, training_text):
    contexts = [item["context"] for item in jsonl(made, "story_last_word")]
    contexts += [context for item in jsonl(made, "world_schema") for context in item["context_options"]]
    assert [context for context in contexts if context in training_text] == []


def test_no_test_dialogue_about_the_world_is_held_in_training(made, asked):
    local = {"world-small-talk", "world-explain"}  # the same in both splits, and not scored
    for row in made.rows("dialogue/data/test"):
        first = row["messages"][0]["content"]
        if row["source"] not in local and "?" in first:
            assert first not in asked
