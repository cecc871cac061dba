"""Where everything lies: the paths of one run's artifacts and shared data, derived from its configuration.

results/<run>/{tokenizer,base,mid,sft,rl,eval/…,report.md,figures,logs,benchmarks}   one run
data/<source>/{datasets,files,eval_bundle}                                           shared between runs
data/<source>/tokens/<key>/{tokenizer,shard_00000,…}                                 a tokenizer and its token files
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from nanochat.config.catalogue import Catalogue, Corpus, load_catalogue
from nanochat.config.run import RunConfig
from nanochat.errors import ConfigError

# English web text has 4.2 to 4.8 characters per token at vocabulary 32,768 to 65,536; 5.3 leaves a margin of 10 %.
_CHARS_PER_TOKEN = 5.3


def _key(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Layout:
    """Paths of one configured run.

    Args:
        config: the validated configuration.
        train_tokens: tokens that pretraining will see; decides how many shards `auto` means.
    """

    config: RunConfig
    train_tokens: int

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue of data sets."""
        return load_catalogue()

    @property
    def corpus(self) -> Corpus:
        """The pretraining corpus."""
        return self.catalogue.corpora[self.config.data.corpus]

    @property
    def run(self) -> str:
        """Folder of the run."""
        return f"results/{self.config.name}"

    @property
    def mirror(self) -> str | None:
        """Folder the files are taken from: the made world or a local mirror; None for the hub."""
        if self.config.data.source == "hub":
            return None
        return f"{self.data}/made" if self.config.data.source == "world" else self.config.data.source

    @property
    def data(self) -> str:
        """Folder of the downloaded, linked or made files, one for each source, shared between runs."""
        source = self.config.data.source
        if source == "hub":
            return "data/hub"
        if source == "world":
            return f"data/world-{_key(self.config.world.model_dump_json())}"
        return f"data/mirror-{Path(source).name}-{_key(source)}"

    @property
    def shard_count(self) -> int:
        """Shards of the corpus in all, the validation shard included."""
        return self.corpus.shards or self.config.world.train_shards + 1

    @property
    def train_shards(self) -> list[int]:
        """Numbers of the training shards in use.

        Raises:
            ConfigError: if more are asked for than the corpus has.
        """
        available = self.shard_count - 1
        wanted = self.config.data.train_shards
        if wanted == "auto":
            if self.config.data.corpus == "world":
                wanted = available
            else:
                needed = math.ceil(self.train_tokens * _CHARS_PER_TOKEN / self.corpus.shard_chars)
                wanted = min(available, max(1, needed))
        if not 1 <= wanted <= available:
            raise ConfigError(
                f"config: data.train_shards = {wanted}: {self.config.data.corpus} has {available} training shards"
            )
        return list(range(wanted))

    @property
    def val_shard(self) -> int:
        """Number of the validation shard: always the last one of the corpus."""
        return self.shard_count - 1

    def shard(self, index: int) -> str:
        """Path of a text shard."""
        return f"{self.data}/{self.corpus.path(index)}"

    @property
    def tokenizer_shards(self) -> list[str]:
        """The training shards the tokenizer is trained on: as many as its `max_chars` needs."""
        shards = self.train_shards
        if self.config.data.corpus != "world":
            shards = shards[: math.ceil(self.config.tokenizer.max_chars / self.corpus.shard_chars)]
        return [self.shard(index) for index in shards]

    @property
    def tokenizer(self) -> str:
        """The tokenizer, beside the token files made with it; runs with equal settings share it."""
        return f"{self.tokens_root}/tokenizer"

    @property
    def run_tokenizer(self) -> str:
        """The run's own copy of it."""
        return f"{self.run}/tokenizer"

    @property
    def tokens_root(self) -> str:
        """Folder of the token files that this tokenizer makes of this corpus; runs with equal settings share it."""
        key = _key(self.config.tokenizer.model_dump_json(), *self.tokenizer_shards)
        return f"{self.data}/tokens/{self.config.data.corpus}-{self.config.tokenizer.vocab_size}-{key}"

    def tokens(self, index: int) -> str:
        """Token folder of a shard."""
        return f"{self.tokens_root}/shard_{index:05d}"

    @property
    def train_tokens_folders(self) -> list[str]:
        """Token folders of the training shards."""
        return [self.tokens(index) for index in self.train_shards]

    @property
    def val_tokens_folder(self) -> str:
        """Token folder of the validation shard."""
        return self.tokens(self.val_shard)

    @property
    def bundle(self) -> str:
        """The CORE-format evaluation bundle."""
        return f"{self.data}/eval_bundle"

    def checkpoint(self, stage: str) -> str:
        """Checkpoint folder of a training stage."""
        return f"{self.run}/{stage}"

    def evaluation(self, stage: str) -> str:
        """Evaluation folder of a stage (`tokenizer`, `base`, `mid`, `sft`, `rl`)."""
        return f"{self.run}/eval/{stage}"

    def init(self, stage: str) -> str:
        """Checkpoint that a chat stage starts from."""
        before = {"mid": "base", "sft": "mid", "rl": "sft"}[stage]
        return self.checkpoint(before)

    def task_files(self, stage: str) -> list[str]:
        """Data files that `mid`, `sft`, `rl` or `chat_eval` reads, sorted, each once."""
        tasks = self.catalogue.tasks
        if stage == "chat_eval":
            paths = [path for name in self.config.chat_eval.tasks for path in tasks[name].test]
        elif stage == "rl":
            paths = list(tasks[self.config.rl.task].train)
        else:
            paths = [path for name in getattr(self.config, stage).mixture for path in tasks[name].train]
        return [f"{self.data}/{path}" for path in sorted(set(paths))]

    @property
    def artifacts(self) -> list[str]:
        """Every stage's artifact: what the default target asks for."""
        stages = self.config.chat_stages
        return [
            self.run_tokenizer,
            self.checkpoint("base"),
            *map(self.checkpoint, stages),
            *map(self.evaluation, ("tokenizer", "base", *stages)),
        ]

    @property
    def newest_checkpoint(self) -> str | None:
        """The last stage's checkpoint that exists; None before the base model is trained."""
        existing = [stage for stage in ("base", *self.config.chat_stages) if Path(self.checkpoint(stage)).is_dir()]
        return self.checkpoint(existing[-1]) if existing else None
