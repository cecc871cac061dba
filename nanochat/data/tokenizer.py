"""Byte-level BPE over a split in the manner of GPT-4, with nine special tokens at the end of the vocabulary.

The special and unused tokens are entries of the BPE vocabulary that no merge reaches, not "added tokens" that the
`tokenizers` library would look for in every text: whatever a user types, only this program places special tokens.
"""

import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from nanochat.config import TokenizerSettings
from nanochat.data.bpe import learn_merges
from nanochat.data.pieces import PieceEncoder
from nanochat.data.words import WordCounter
from nanochat.errors import ArtifactError, DataError

SPECIAL_TOKENS: tuple[str, ...] = (
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
)
TOKENIZER_FILE = "tokenizer.json"
TOKEN_BYTES_FILE = "token_bytes.npy"

_MIN_FREQUENCY = 2  # a pair seen once says nothing about the language
_TRAINING_BATCH = 4096


def split_pattern(max_digits: int) -> str:
    """Regular expression of the units that merges never cross.

    As GPT-4's (tiktoken's cl100k_base) it keeps words with the blank before them, short runs of digits, runs of
    signs and blanks apart. Unlike it, a word takes no sign with it: a letter is the same token after a blank-less
    `=`, `:` or `,`, as multiple choice and spelling need, for 0.3 to 0.8 % more tokens on English text.
    """
    return "|".join(
        (
            r"'(?i:[smtd]|re|ve|ll)(?!\p{L})",  # 's, 'll
            r"[^\S\r\n]?\p{L}[\p{L}\p{M}]*",  # a word, combining marks included, and one blank before it
            rf"\p{{N}}{{1,{max_digits}}}",  # digits
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",  # signs, with the line end after them
            r"\s*[\r\n]+",  # blank lines and the blanks before them
            r"\s+(?!\S)",  # blanks, but for the one that belongs to the next word
            r"\s+",
        )
    )


def splitter(settings: TokenizerSettings) -> pre_tokenizers.PreTokenizer:
    """Splits texts into the units that merges never cross."""
    return pre_tokenizers.Split(Regex(split_pattern(settings.max_digits)), behavior="isolated")


def _byte_of_character() -> dict[str, int]:
    """The alphabet of byte-level BPE (GPT-2): visible Latin-1 characters stand for themselves, others for 256 + n."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    return {chr(byte): byte for byte in visible} | {chr(256 + number): byte for number, byte in enumerate(hidden)}


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, _TRAINING_BATCH)):
        yield batch


class Tokenizer:
    """Text to token ids and back.

    Args:
        core: a `tokenizers` BPE whose last nine ids are the special tokens.

    Raises:
        ArtifactError: if they are not, or the vocabulary has gaps.
    """

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        self._core = core
        self.vocab_size: int = core.get_vocab_size()
        self.special: Mapping[str, int] = MappingProxyType(
            {name: self.vocab_size - len(SPECIAL_TOKENS) + place for place, name in enumerate(SPECIAL_TOKENS)}
        )
        self.bos: int = self.special["<|bos|>"]
        for name, number in self.special.items():
            if core.id_to_token(number) != name:
                raise ArtifactError(
                    f"tokenizer: id {number} of {self.vocab_size} is {core.id_to_token(number)!r}, expected {name}; "
                    "this is not a tokenizer of this project: train one with the rule tokenizer"
                )

    @classmethod
    def train(cls, texts: Iterable[str], settings: TokenizerSettings) -> "Tokenizer":
        """Learn merges from texts; see `learn`.

        Raises:
            DataError: if there is no text at all.
        """
        counter = WordCounter(splitter(settings))
        counter.count(pa.array(batch, pa.large_string()) for batch in _batches(texts))
        return cls.learn(counter, settings)

    @classmethod
    def learn(cls, counter: WordCounter, settings: TokenizerSettings) -> "Tokenizer":
        """Learn merges from counted words; the result has exactly `settings.vocab_size` tokens.

        The first 256 tokens are the bytes. Where the words have fewer pairs to merge, `<|unused_i|>` tokens fill the
        vocabulary up.

        Raises:
            DataError: if nothing was counted.
        """
        if not counter.characters:
            raise DataError("tokenizer: there is no text to train on; expected at least one document in the shards")
        words = counter.words()
        text = pa.array(words, pa.large_string())
        learned = settings.vocab_size - len(SPECIAL_TOKENS)
        names, merges = learn_merges(
            [bytes([byte]) for byte in range(256)],
            np.frombuffer(text.buffers()[2], dtype=np.uint8),
            np.frombuffer(text.buffers()[1], dtype=np.int64),
            np.fromiter(words.values(), dtype=np.int64, count=len(words)),
            learned,
            _MIN_FREQUENCY,
        )
        character = {byte: sign for sign, byte in _byte_of_character().items()}
        tokens = ["".join(map(character.__getitem__, name)) for name in names]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        for name in [f"<|unused_{number}|>" for number in range(len(tokens), learned)] + list(SPECIAL_TOKENS):
            vocabulary[name] = len(vocabulary)
        core = tokenizers.Tokenizer(models.BPE(vocabulary, [(tokens[left], tokens[right]) for left, right in merges]))
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.pre_tokenizer = pre_tokenizers.Sequence([splitter(settings), byte_level])
        core.decoder = decoders.ByteLevel()
        return cls(core)

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """Read a saved tokenizer; a checkpoint directory holds one too.

        Raises:
            ArtifactError: if it is missing or damaged.
        """
        path = directory / TOKENIZER_FILE
        if not path.is_file():
            raise ArtifactError(f"{directory} holds no {TOKENIZER_FILE}; expected a tokenizer or checkpoint directory")
        try:
            core = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{path} is damaged ({reason}); delete {directory} and rerun snakemake") from None
        return cls(core)

    def save(self, directory: Path) -> None:
        """Write tokenizer.json and token_bytes.npy; equal tokenizers give equal files."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / TOKENIZER_FILE).write_text(self._core.to_str(), encoding="utf-8")
        np.save(directory / TOKEN_BYTES_FILE, self.token_bytes)

    @cached_property
    def _bytes_of_token(self) -> list[bytes]:
        """Bytes each token stands for; none for special and unused tokens."""
        alphabet = _byte_of_character()
        names = [self._core.id_to_token(number) for number in range(self.vocab_size)]
        return [
            b"" if number >= self.bos or _is_unused(name) else bytes(alphabet[character] for character in name)
            for number, name in enumerate(names)
        ]

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """(vocab_size,) int32 bytes of each token, 0 for special and unused tokens."""
        return np.array([len(piece) for piece in self._bytes_of_token], dtype=np.int32)

    @property
    def unused(self) -> int:
        """Number of tokens that fill up the vocabulary."""
        return int((self.token_bytes[: self.bos] == 0).sum())

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; the names of special tokens in it are plain text."""
        try:
            return self._core.encode(text, add_special_tokens=False).ids
        except TypeError:  # half of a surrogate pair, as broken JSON may hold: the library takes it for no string
            return self.encode_bytes(text.encode("utf-8", "surrogatepass"))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts, on all cores the process may use."""
        try:
            return [encoding.ids for encoding in self._core.encode_batch_fast(list(texts), add_special_tokens=False)]
        except TypeError:
            return [self.encode(text) for text in texts]

    def encode_bytes(self, content: bytes) -> list[int]:
        """Token ids of any bytes: UTF-8 as text, what is none byte by byte; `decode_bytes` gives them back."""
        ids: list[int] = []
        for part in re.split("([\udc80-\udcff])", content.decode("utf-8", "surrogateescape")):
            if len(part) == 1 and "\udc80" <= part <= "\udcff":
                ids.append(int(self._id_of_byte[ord(part) - 0xDC00]))
            elif part:
                ids += self._core.encode(part, add_special_tokens=False).ids
        return ids

    @cached_property
    def _id_of_byte(self) -> np.ndarray:
        """(256,) int32 token of each byte."""
        ids = np.zeros(256, dtype=np.int32)
        for sign, byte in _byte_of_character().items():
            ids[byte] = self._core.token_to_id(sign)
        return ids

    @cached_property
    def pieces(self) -> PieceEncoder:
        """Encodes many short pieces, each as if it stood alone."""
        return PieceEncoder(self._core, self._id_of_byte, self.token_bytes)

    def check_split(self) -> None:
        """Check that texts are split as `split_pattern` says, which chunks.py relies on.

        Raises:
            ArtifactError: if the tokenizer was made with another split.
        """
        split = pickle.dumps(self._core.pre_tokenizer)
        if not any(json.dumps(split_pattern(n), ensure_ascii=False).encode() in split for n in (1, 2, 3)):
            raise ArtifactError(
                "tokenizer: its split is not one of this version of the program; delete it and rerun snakemake"
            )

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of token ids: special tokens by name unless skipped, bytes that are no UTF-8 as U+FFFD."""
        numbers = [int(number) for number in ids]
        if skip_special:
            return self.decode_bytes(numbers).decode("utf-8", errors="replace")
        parts = []
        plain: list[int] = []
        for number in numbers:
            if number < self.bos:
                plain.append(number)
                continue
            parts.append(self.decode_bytes(plain).decode("utf-8", errors="replace"))
            parts.append(SPECIAL_TOKENS[number - self.bos])
            plain = []
        parts.append(self.decode_bytes(plain).decode("utf-8", errors="replace"))
        return "".join(parts)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of token ids; special tokens have none."""
        pieces = self._bytes_of_token
        return b"".join([pieces[number] for number in ids])


def _is_unused(name: str) -> bool:
    return name.startswith("<|unused_") and name.endswith("|>")
