"""Spelling words and counting their letters: generated from a word list, on words of their own for the test."""

import random
from collections.abc import Sequence
from pathlib import Path

from nanochat.config import TaskEntry
from nanochat.data.conversation import Conversation, Part
from nanochat.data.splits import held_out
from nanochat.errors import DataError
from nanochat.evaluate.tasks.base import Split, Task, conversation_of
from nanochat.evaluate.tasks.gsm8k import final_number

TEST_FRACTION = 0.1
"""Share of the words that occur in the test split only."""
MIN_LETTERS = 3
_OTHER_LETTERS = "abcdefghijklmnopqrstuvwxyz"

# The word mostly stands in quotes, without a blank before it: then it is the same tokens as in the tool call.
_SPELL = (
    "Spell the word '{word}'.",
    "Spell '{word}'.",
    "Please spell '{word}'.",
    "How do you spell '{word}'?",
    "How is '{word}' spelled?",
    "Can you spell '{word}' for me?",
    "Which letters are in '{word}', one by one?",
    "Spell '{word}' letter by letter.",
    "Write '{word}' letter by letter.",
    "Spell the word {word}",
    "How do you spell {word}?",
)
_COUNT = (
    "How many '{letter}' are in '{word}'?",
    "How many '{letter}' are there in '{word}'?",
    "How many letters '{letter}' are in '{word}'?",
    "How many '{letter}' does '{word}' have?",
    "How many '{letter}' are in the word '{word}'?",
    "How many times is '{letter}' in '{word}'?",
    "How many times does '{letter}' occur in '{word}'?",
    "How often is the letter '{letter}' in '{word}'?",
    "How often does '{letter}' occur in the word '{word}'?",
    "Count the letter '{letter}' in '{word}'.",
    "Count the '{letter}' in '{word}'.",
    "Count how many '{letter}' are in '{word}'.",
    "Tell me how many '{letter}' are in '{word}'.",
    "What is the number of '{letter}' in '{word}'?",
    "In '{word}', how many letters are '{letter}'?",
    "In the word '{word}', how often is there a '{letter}'?",
    "How many {letter} are in {word}?",
    "How many {letter} are there in the word {word}?",
)


def read_words(paths: Sequence[Path], split: Split) -> list[str]:
    """The words of a split, sorted: plain lower-case letters, at least three of them.

    Raises:
        DataError: if a file cannot be read or holds no such word.
    """
    words: set[str] = set()
    for path in paths:
        try:
            words.update(path.read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read ({error}); delete it and rerun snakemake to fetch it") from None
    plain = (
        word for word in words if word.isascii() and word.isalpha() and word.islower() and len(word) >= MIN_LETTERS
    )
    found = sorted(word for word in plain if held_out(word, TEST_FRACTION, "word") == (split == "test"))
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no words for the {split} split; expected one word a line")
    return found


def spelled(word: str) -> str:
    """`cat:c,a,t`; no blank after a comma, so that a letter is the same token everywhere."""
    return f"{word}:{','.join(word)}"


class _WordTask(Task):
    """Items made from words: the test has every held-out word once, training goes through its words again and again."""

    def __init__(self, name: str, entry: TaskEntry, split: Split, paths: Sequence[Path]) -> None:
        super().__init__(name, entry, split, paths)
        self._words = read_words(paths, split)
        random.Random(f"{entry.kind} {split}").shuffle(self._words)
        self._size = len(self._words) if split == "test" else entry.size or len(self._words)

    def __len__(self) -> int:
        return self._size

    def _word(self, index: int) -> str:
        if not 0 <= index < self._size:
            raise IndexError(f"{self.name}: item {index} of {self._size}")
        return self._words[index % len(self._words)]

    def _random(self, index: int) -> random.Random:
        return random.Random(f"{type(self).__name__} {self.split} {index}")

    def key(self, index: int) -> str:
        """The word: all items about one word fall on the same side of a split."""
        return self._word(index)


class SimpleSpelling(_WordTask):
    """Spelling: user `Spell the word 'cat'.`, assistant `cat:c,a,t`."""

    def conversation(self, index: int) -> Conversation:
        """A request to spell a word, and the spelled word."""
        word = self._word(index)
        return conversation_of(self._random(index).choice(_SPELL).format(word=word), spelled(word))

    def gold(self, index: int) -> str:
        """The spelled word."""
        return spelled(self._word(index))

    def reward(self, index: int, text: str) -> float:
        """Whether the reply spells the word; blanks, and the word before the colon, do not matter."""
        letters = "".join(text.split()).rpartition(":")[2]
        return float(letters == ",".join(self._word(index)))


class SpellingBee(_WordTask):
    r"""Counting a letter in a word, by eye and then with the tool.

    User `How many 'r' are in 'strawberry'?`; assistant text `strawberry:s,t,r,a,w,b,e,r,r,y\nr:3\n`, python
    `'strawberry'.count('r')`, python_output `3`, text `\n#### 3`. Nine of ten letters occur in the word.
    """

    def _item(self, index: int) -> tuple[str, str, str]:
        """Word, letter, question."""
        word, generator = self._word(index), self._random(index)
        letter = generator.choice(word if generator.random() < 0.9 else _OTHER_LETTERS)
        return word, letter, generator.choice(_COUNT).format(word=word, letter=letter)

    def conversation(self, index: int) -> Conversation:
        """The question and the counted reply."""
        word, letter, question = self._item(index)
        count = str(word.count(letter))
        reply = [
            Part(type="text", text=f"{spelled(word)}\n{letter}:{count}\n"),
            Part(type="python", text=f"'{word}'.count('{letter}')"),
            Part(type="python_output", text=count),
            Part(type="text", text=f"\n#### {count}"),
        ]
        return conversation_of(question, reply)

    def gold(self, index: int) -> str:
        """The count."""
        word, letter, _ = self._item(index)
        return str(word.count(letter))

    def reward(self, index: int, text: str) -> float:
        """Whether the number after the reply's last `####` is the count."""
        return float(final_number(text) == float(self.gold(index)))
