"""Spelling and letter counting: the packaged word list and its lines in the pretraining text (training words only)."""

from collections.abc import Sequence
from importlib import resources
from random import Random

from nanochat.data.world.splits import is_test_word
from nanochat.data.world.tables import NUMBER_WORDS


def load_words() -> tuple[str, ...]:
    """The packaged English words, sorted: lower case, 3 to 9 letters."""
    text = resources.files("nanochat.data.world").joinpath("words.txt").read_text(encoding="ascii")
    return tuple(text.split())


def training_words(words: Sequence[str]) -> tuple[str, ...]:
    """The words that may be spelled in training."""
    return tuple(word for word in words if not is_test_word(word))


def spelling_text(rng: Random, words: Sequence[str]) -> str:
    """A document of spelling lines about training words.

    Letters follow a comma without a space, as in the chat tasks, so that they are the same tokens everywhere.

    Args:
        rng: source of randomness.
        words: training words.
    """
    maker = (_plain, _spelled, _mixed, _counted, _counted, _lengths)[int(rng.random() * 6)]
    return maker(rng, [words[int(rng.random() * len(words))] for _ in range(rng.randint(5, 9))])


def _spell(word: str) -> str:
    return ",".join(word)


def _plain(rng: Random, words: list[str]) -> str:
    return "\n".join(f"{word}:{_spell(word)}" for word in words)


def _spelled(rng: Random, words: list[str]) -> str:
    forms = ("The word {w} is spelled {l}.", "You spell {w} like this: {l}.", "{w} is spelled {l}.")
    return " ".join(rng.choice(forms).format(w=word, l=_spell(word)) for word in words)


def _mixed(rng: Random, words: list[str]) -> str:
    form = rng.choice(("Spell '{w}'.\n{w}:{l}", "How do you spell '{w}'?\n{w}:{l}", "Spell the word {w}\n{w}:{l}"))
    return "\n".join(form.format(w=word, l=_spell(word)) for word in words)


def _counted(rng: Random, words: list[str]) -> str:
    lines = []
    for word in words:
        letter = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghilmnoprst")
        count = word.count(letter)
        times = "once" if count == 1 else f"{count} times"
        forms = (
            f"{word}:{_spell(word)} The letter {letter} is in {word} {times}.",
            f"How many '{letter}' are in '{word}'?\n{word}:{_spell(word)}\n{letter}:{count}",
            f"Count the '{letter}' in '{word}'.\n{word}:{_spell(word)}\n'{word}'.count('{letter}') is {count}",
        )
        lines.append(rng.choice(forms))
    return "\n".join(lines)


def _lengths(rng: Random, words: list[str]) -> str:
    lines = []
    for word in words:
        forms = (
            f"{word}:{_spell(word)} is {len(word)} letters long.",
            f"The word {word} has {NUMBER_WORDS[len(word)]} letters: {_spell(word)}.",
            f"The word {word} begins with {word[0]} and ends with {word[-1]}.",
        )
        lines.append(rng.choice(forms))
    return "\n".join(lines)
