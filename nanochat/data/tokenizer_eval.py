"""The stage `tokenizer_eval`: how many bytes a token holds, on several kinds of text."""

import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nanochat.artifact import Manifest, Workspace, write_atomically
from nanochat.config.stages import EmptyStage
from nanochat.data.conversation import Conversation, render
from nanochat.data.shards import documents
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError

log = logging.getLogger(__name__)

NOT_AVAILABLE = "not available"
RESULTS_FILE = "compression.json"

_VALIDATION_CHARACTERS = 1_000_000
_REFERENCES = {"gpt2": "gpt2", "gpt4": "cl100k_base"}

_SAMPLES = {
    "prose": (
        "The ferry had left without them, so they sat down on the harbour wall and shared the last of the bread. "
        "Nobody spoke for a while. Beyond the lighthouse the clouds were breaking up, and long bars of light moved "
        "over the water as if somebody were looking for something there. “We could walk,” she said at last; it was "
        "twelve miles to the next village, and neither of them had ever minded walking.\n\n"
        "By the time the church clock struck six, they had passed the quarry and could see the first chimneys."
    ),
    "code": (
        "def running_mean(values, window=3):\n"
        '    """Mean of the last `window` values, one for each position."""\n'
        "    total = 0.0\n"
        "    result = []\n"
        "    for index, value in enumerate(values):\n"
        "        total += value\n"
        "        if index >= window:\n"
        "            total -= values[index - window]\n"
        "        result.append(total / min(index + 1, window))\n"
        "    return result\n\n\n"
        'if __name__ == "__main__":\n'
        '    print(running_mean([1, 2.5, -3, {"x": 4}["x"]]))\n'
    ),
    "numbers": (
        "In 1987 the plant made 24,318 tonnes at $417.50 each; by 2003 it was 61,905 tonnes (+154.6 %). "
        "Call 0331 555 0172. 3.14159 26535, 2^16 = 65536, 17 * 23 = 391, 1/7 = 0.142857, 6.02e23, 10:45, 2024-02-29."
    ),
    "unicode": (
        "Der Fluß fließt über große Steine. Où est la bibliothèque ? El niño comió piñas. Сегодня идёт снег. "
        "今天天气很好，我们去公园吧。 東京は雨です。 오늘은 날씨가 좋네요. आज मौसम अच्छा है। الطقس جميل اليوم. "
        "∀x ∈ ℝ: x² ≥ 0 ⇒ √(x²) = |x| → 🙂👍🏽 naïve café"
    ),
}
_CHAT: Conversation = {
    "messages": [
        {"role": "user", "content": "Hi! How many eggs are in 3 boxes of 12, if 5 are broken?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Three boxes hold "},
                {"type": "python", "text": "3*12"},
                {"type": "python_output", "text": "36"},
                {"type": "text", "text": "36 eggs, and 36 - 5 = 31 of them are whole.\n\n#### 31"},
            ],
        },
        {"role": "user", "content": "Thanks. And what is the capital of Portugal?"},
        {"role": "assistant", "content": "The capital of Portugal is Lisbon."},
    ]
}


def _record(name: str, texts: Iterable[str], tokens: int) -> dict[str, Any]:
    size = sum(len(text.encode()) for text in texts)
    return {"text": name, "bytes": size, "tokens": tokens, "bytes_per_token": round(size / tokens, 4)}


def validation_texts(shard: Path, characters: int = _VALIDATION_CHARACTERS) -> list[str]:
    """Documents from the start of a shard until `characters` are reached, at least one.

    Raises:
        DataError: if the shard is damaged or has no document.
    """
    texts = []
    for text in documents(shard):
        texts.append(text)
        characters -= len(text)
        if characters <= 0:
            break
    if not texts:
        raise DataError(f"{shard} has no document; expected the validation text in its column 'text'")
    return texts


def reference_encoders() -> dict[str, Callable[[str], int] | None]:
    """Token counters of GPT-2 and GPT-4, where tiktoken is installed and has their files already; else None.

    Nothing is ever downloaded for it.
    """
    found: dict[str, Callable[[str], int] | None] = dict.fromkeys(_REFERENCES)
    try:
        import tiktoken
    except ImportError:
        return found

    def refuse(address: str) -> bytes:
        raise OSError(f"{address} is not in tiktoken's cache")

    for name, encoding in _REFERENCES.items():
        # tiktoken has no offline switch: take its download function away while it looks into its cache.
        try:
            with patch("tiktoken.load.read_file", refuse):
                encoder = tiktoken.get_encoding(encoding)
        except Exception as error:  # whatever it raises, the comparison is only a bonus
            log.info("%s is not compared: %s", name, error)
            continue
        found[name] = lambda text, encoder=encoder: len(encoder.encode_ordinary(text))
    return found


def compression(tokenizer: Tokenizer, texts: dict[str, list[str]]) -> list[dict[str, Any]]:
    """One record for each kind of text: bytes, tokens, bytes_per_token, and those of GPT-2 and GPT-4.

    A token for each byte would be 1.0. The conversation counts its special tokens, its bytes are those of its texts;
    the reference tokenizers have no such tokens and are not compared there.
    """
    references = reference_encoders()
    records = []
    for name, members in texts.items():
        record = _record(name, members, sum(map(len, tokenizer.encode_batch(members))))
        for reference, counter in references.items():
            key = f"{reference}_bytes_per_token"
            record[key] = NOT_AVAILABLE
            if counter:
                record[key] = round(record["bytes"] / sum(map(counter, members)), 4)
        records.append(record)
    messages = [message["content"] for message in _CHAT["messages"]]
    spoken = [text for content in messages for text in _texts_of(content)]
    chat = _record("chat", spoken, len(render(tokenizer, _CHAT)[0]))
    return [*records, chat | {f"{reference}_bytes_per_token": NOT_AVAILABLE for reference in references}]


def _texts_of(content: str | list[Any]) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content]


def run(settings: EmptyStage, *, out: Path, tokenizer: Path, shard: Path) -> Manifest:
    """Measure compression and write it to `out` as {compression.json, manifest.json}.

    Args:
        settings: none; the stage is fixed by its inputs.
        out: output folder.
        tokenizer: a tokenizer's folder.
        shard: validation shard of the run.

    Raises:
        DataError: if the shard is damaged or empty.
        ArtifactError: if an input is missing or damaged.
    """
    with Workspace(out, "tokenizer_eval", settings, {"tokenizer": tokenizer, "shard": shard}) as workspace:
        if workspace.finished():
            return workspace.promote()
        begin = time.perf_counter()
        texts = {"validation": validation_texts(shard), **{name: [text] for name, text in _SAMPLES.items()}}
        records = compression(Tokenizer.load(tokenizer), texts)
        write_atomically(workspace.final / RESULTS_FILE, json.dumps(records, indent=2) + "\n")
        return workspace.finish(metrics={"compression": records}, wall_seconds=time.perf_counter() - begin)
