"""Where everything lies: the paths of one run's artifacts and shared data, derived from its configuration.

results/<run>/{tokenizer,own,base,mid,sft,rl,eval/…,report.md,figures,logs,benchmarks}   one run
data/<place>/{datasets,files,eval_bundle}                          files of one source, shared between runs
data/tokens/<key>/{tokenizer,<corpus>/shard_00000,…}               a tokenizer and its token files, shared between runs
"""

import hashlib
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nanochat.config.catalogue import Catalogue, load_catalogue
from nanochat.config.files import find_files
from nanochat.config.own import OWN, OWN_CORPUS, PERSONA
from nanochat.config.run import RunConfig
from nanochat.config.text import Text
from nanochat.errors import ConfigError

# English web text has 4.2 to 4.8 characters per token at vocabulary 32,768 to 65,536; 5.3 leaves a margin of 10 %.
_CHARS_PER_TOKEN = 5.3
_OWN_SHARD_BYTES = 64_000_000
_UNPACKED = {".gz": 3, ".zst": 3, ".parquet": 3}  # size of the text in files of these kinds, about


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
    def run(self) -> str:
        """Folder of the run."""
        return f"results/{self.config.name}"

    @property
    def data(self) -> str:
        """Folder of the downloaded, linked or made files of `data.source`, shared between runs."""
        source = self.config.data.source
        if source in ("hub", "world"):
            return "data/hub" if source == "hub" else self.world
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(source).name)
        return f"data/mirror-{name}-{_key(source)}"

    @property
    def world(self) -> str:
        """Folder of the embedded world."""
        return f"data/world-{_key(self.config.world.model_dump_json())}"

    @property
    def own_text(self) -> str | None:
        """Folder of the user's own text, made into shards; None where it is not used."""
        if OWN not in self.config.data.shares:
            return None
        return f"data/own-{_key(self.config.own.text.model_dump_json(), self.config.own.on_damage)}"

    @property
    def sources(self) -> dict[str, str]:
        """Where the files of each data folder are taken from: `hub`, the address of a mirror, or a folder."""
        source = self.config.data.source
        made = {self.world: f"{self.world}/made"}
        if self.own_text:
            made[self.own_text] = f"{self.own_text}/made"
        return {self.data: source} | made

    @cached_property
    def own_files(self) -> tuple[str, ...]:
        """Files of the user's own text; none where they are gone, which matters only to what is made of them."""
        try:
            return find_files(self.config.own.text.files, "own.text.files").files
        except ConfigError:
            return ()

    @cached_property
    def own_shards(self) -> int:
        """Training shards that the user's own text is made into."""
        wanted = self.config.own.text.shards
        size = sum(Path(file).stat().st_size * _UNPACKED.get(Path(file).suffix, 1) for file in self.own_files)
        return wanted or max(1, round(size / _OWN_SHARD_BYTES))

    def input_files(self, name: str) -> tuple[str, ...]:
        """The user's files that the corpus or task `name` is made of.

        Raises:
            ConfigError: if there are none, or one has a name that Snakemake cannot handle.
        """
        own = self.config.own
        patterns, key = {
            OWN: (own.text.files, "own.text.files"),
            PERSONA: ((own.persona.file or "",), "own.persona.file"),
        }.get(name) or ((own.conversations[name],), f"own.conversations.{name}")
        files = find_files(patterns, key).files
        for file in files:
            if re.search(r"\{.*\}", file):
                raise ConfigError(f"config: {key}: {file}: Snakemake takes braces in a name for wildcards; rename it")
        return files

    @property
    def settled(self) -> RunConfig:
        """The configuration, with the number of shards of the user's own text filled in."""
        if OWN not in self.config.data.shares:
            return self.config
        text = self.config.own.text.model_copy(update={"shards": self.own_shards})
        return self.config.model_copy(update={"own": self.config.own.model_copy(update={"text": text})})

    @cached_property
    def texts(self) -> list[Text]:
        """The corpora of the pretraining text.

        Raises:
            ConfigError: if more training shards are asked for than one has.
        """
        return [self._text(name) for name in self.config.data.shares]

    def text(self, name: str) -> Text:
        """One corpus of the pretraining text."""
        return next(text for text in self.texts if text.name == name)

    def _text(self, name: str) -> Text:
        entry = OWN_CORPUS if name == OWN else self.catalogue.corpora[name]
        wanted = self.config.data.train_shards
        if name == OWN:
            folder, available, wanted = self.own_text, self.own_shards, "auto"
        elif name == "world":
            # A folder may hold a world; the public hubs and their mirrors do not.
            elsewhere = self.config.data.source.startswith(("hub", "http"))
            folder, available = self.world if elsewhere else self.data, self.config.world.train_shards
        else:
            folder, available = self.data, (entry.shards or 1) - 1
        if wanted == "auto":
            shares = self.config.data.shares
            share = shares[name].weight / sum(one.weight for one in shares.values())
            needed = math.ceil(self.train_tokens * share * _CHARS_PER_TOKEN / entry.shard_chars)
            wanted = available if name in (OWN, "world") else min(available, max(1, needed))
        if not 1 <= wanted <= available:
            raise ConfigError(f"config: data.train_shards = {wanted}: {name} has {available} training shards")
        return Text(name, entry, folder, wanted, available)

    @property
    def tokenizer_shards(self) -> list[str]:
        """The training shards the tokenizer is trained on: of each corpus as many as `max_chars` needs."""
        found = []
        for text in self.texts:
            needed = math.ceil(self.config.tokenizer.max_chars / text.entry.shard_chars)
            found += text.train_shards if text.name in (OWN, "world") else text.train_shards[:needed]
        return found

    @property
    def tokenizer(self) -> str:
        """The tokenizer, beside the token files made with it; runs with equal settings share it."""
        return f"{self.tokens_root}/tokenizer"

    @property
    def run_tokenizer(self) -> str:
        """The run's own copy of it."""
        return f"{self.run}/tokenizer"

    @cached_property
    def tokens_root(self) -> str:
        """Folder of the token files that this tokenizer makes of these corpora; runs with equal settings share it."""
        key = _key(self.config.tokenizer.model_dump_json(), *self.tokenizer_shards)
        names = "+".join(self.config.data.shares)
        return f"data/tokens/{names}-{self.config.tokenizer.vocab_size}-{key}"

    def tokens(self, corpus: str, index: int) -> str:
        """Token folder of a shard."""
        return f"{self.tokens_root}/{corpus}/shard_{index:05d}"

    @property
    def train_tokens_ranges(self) -> list[str]:
        """The same folders as `train_tokens_folders`, a corpus each, short enough for a command line."""
        return [f"{self.tokens_root}/{text.name}/shard_[{0:05d}-{text.wanted - 1:05d}]" for text in self.texts]

    def version(self, path: str) -> str:
        """What the catalogue pins of a public file: the commit of its data set, or its digest."""
        if self.config.data.source != "hub":
            return ""
        if path.startswith("datasets/"):
            return self.catalogue.revision_of(path)
        return self.catalogue.urls[path].sha256 or ""

    @property
    def train_tokens_folders(self) -> list[str]:
        """Token folders of the training shards."""
        return [self.tokens(text.name, index) for text in self.texts for index in text.train]

    @property
    def val_tokens_folders(self) -> list[str]:
        """Token folder of the validation shard of each corpus."""
        return [self.tokens(text.name, text.val) for text in self.texts]

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

    @property
    def export_stage(self) -> str:
        """The checkpoint that `export` takes: `export.stage`, or the last chat stage there is, else the run's last."""
        stages = self.config.chat_stages
        existing = [stage for stage in stages if Path(self.checkpoint(stage)).is_dir()]
        return [*stages, *existing][-1] if self.config.export.stage == "auto" else self.config.export.stage

    def export(self, stage: str) -> str:
        """Folder of a stage's export to Hugging Face."""
        return f"{self.run}/export/{stage}"

    def init(self, stage: str) -> str:
        """Checkpoint that a chat stage starts from."""
        before = {"mid": "base", "sft": "mid", "rl": "sft"}[stage]
        return self.checkpoint(before)

    def own_conversations(self, name: str) -> str:
        """Folder of the user's own conversations called `name`, checked, or of the expanded persona."""
        return f"{self.run}/own/{name}"

    @property
    def own_artifacts(self) -> list[str]:
        """What this run uses of the user's own data, made into artifacts."""
        used = {*self.config.mid.mixture, *self.config.sft.mixture}
        text = [f"{self.own_text}/made"] if self.own_text else []
        return text + [self.own_conversations(name) for name in sorted(self.config.own.tasks) if name in used]

    def task_files(self, stage: str) -> list[str]:
        """Data files and folders that `mid`, `sft`, `rl` or `chat_eval` reads, sorted, each once."""
        if stage == "chat_eval":
            names, split = list(self.config.chat_eval.tasks), "test"
        elif stage == "rl":
            names, split = [self.config.rl.task], "train"
        else:
            names, split = list(getattr(self.config, stage).mixture), "train"
        own = {name for name in names if name in self.config.own.tasks}
        tasks = self.catalogue.tasks
        paths = {f"{self.data}/{path}" for name in names if name not in own for path in getattr(tasks[name], split)}
        return sorted(paths) + [self.own_conversations(name) for name in sorted(own)]

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
