import pytest

from nanochat.config import TaskEntry
from nanochat.data.conversation import render
from nanochat.errors import DataError
from nanochat.evaluate.tasks import load_task
from nanochat.evaluate.tasks.spelling import SimpleSpelling, SpellingBee
from nanochat.infer.tools import calculate

SYLLABLES = ("ba", "de", "fi", "lo", "mu", "ran", "sel", "tor", "wick", "strawb")
WORDS = sorted({a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES})


@pytest.fixture
def bee(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\r\n".join([*WORDS, "Anna", "a", "it's"]) + "\r\n")

    def make(split, cls=SpellingBee, size=3000):
        kind = "spelling_bee" if cls is SpellingBee else "simple_spelling"
        return cls(kind, TaskEntry(kind=kind, metric="generate", size=size, licence="MIT"), split, [path])

    return make


def text_of(conversation):
    reply = conversation["messages"][1]["content"]
    return reply if isinstance(reply, str) else "".join(part["text"] for part in reply)


def test_words_of_the_test_never_occur_in_training(bee):
    for cls in (SpellingBee, SimpleSpelling):
        train, test = bee("train", cls), bee("test", cls)
        training = {train.key(index) for index in range(len(train))}
        testing = [test.key(index) for index in range(len(test))]
        assert not training & set(testing) and len(testing) == len(set(testing))
        assert 0.05 < len(testing) / len(WORDS) < 0.15
        assert training | set(testing) == set(WORDS)


def test_items_are_the_same_in_every_process_and_vary(bee):
    task = bee("train")
    assert task.conversation(17) == bee("train").conversation(17)
    questions = [task.conversation(index)["messages"][0]["content"] for index in range(300)]
    assert len(set(questions)) > 290
    assert 0.02 < sum(task.gold(index) == "0" for index in range(1000)) / 1000 < 0.15
    with pytest.raises(IndexError):
        task.conversation(len(task))


def test_the_reference_reply_is_right_and_its_tool_call_works(bee):
    task = bee("test")
    for index in range(len(task)):
        conversation = task.conversation(index)
        call, output = conversation["messages"][1]["content"][1:3]
        assert calculate(call["text"]) == output["text"] == task.gold(index)
        assert task.reward(index, text_of(conversation)) == 1.0
        assert task.reward(index, f"#### {int(task.gold(index)) + 1}") == task.reward(index, "") == 0.0


def test_simple_spelling(bee):
    task = bee("test", SimpleSpelling)
    word = task.key(0)
    assert text_of(task.conversation(0)) == task.gold(0) == f"{word}:{','.join(word)}"
    assert task.reward(0, task.gold(0)) == task.reward(0, ", ".join(word)) == 1.0
    assert task.reward(0, word) == task.reward(0, ",".join(word[:-1])) == 0.0


def test_the_word_is_the_same_tokens_in_question_and_call(bee, tokenizer):
    task = bee("test")
    for index in range(60):
        conversation = task.conversation(index)
        question = conversation["messages"][0]["content"]
        word = tokenizer.encode(task.key(index))
        ids, mask = render(tokenizer, conversation)
        if f"'{task.key(index)}'" in question:
            assert occurs(word, [token for token, own in zip(ids, mask) if not own])
        own = [token for token, own in zip(ids, mask) if own]
        assert occurs(word, own[own.index(tokenizer.special["<|python_start|>"]) :])
        for letter in task.key(index):
            assert tokenizer.encode(letter)[0] in own


def occurs(needle, hay):
    return any(hay[start : start + len(needle)] == needle for start in range(len(hay)))


def test_a_file_without_words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("A\nB\n")
    with pytest.raises(DataError, match="no words for the train split"):
        SpellingBee("x", TaskEntry(kind="spelling_bee", licence="MIT"), "train", [path])


@pytest.mark.shared
def test_real_words(shared_hub):
    train, test = (load_task("spelling_bee", split, shared_hub) for split in ("train", "test"))
    assert len(train) == 80_000 and 30_000 < len(test) < 40_000
    assert train.reward(79_999, text_of(train.conversation(79_999))) == 1.0
