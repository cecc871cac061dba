"""What can be said of a run before its first job."""

from pathlib import Path

from nanochat.config.catalogue import is_of_world
from nanochat.config.layout import Layout
from nanochat.config.own import OWN
from nanochat.errors import ConfigError


def check(layout: Layout) -> None:
    """Refuse tasks that the source does not have, and more shards than there are.

    The user's own files are looked for where they are still to be used: a finished run can be used without them.

    Raises:
        ConfigError: naming the key.
    """
    if OWN in [text.name for text in layout.texts] and not Path(layout.checkpoint("base")).is_dir():
        layout.input_files(OWN)
    config = layout.config
    stages = {"mid.mixture": config.mid.mixture, "sft.mixture": config.sft.mixture}
    stages |= {"chat_eval.tasks": config.chat_eval.tasks, "rl.task": [config.rl.task] if config.rl.enabled else []}
    for key, names in stages.items():
        for name in names:
            if name in config.own.tasks:
                if not Path(layout.checkpoint(key.removesuffix(".mixture"))).is_dir():
                    layout.input_files(name)
                continue
            entry = layout.catalogue.tasks[name]
            files = entry.test if key == "chat_eval.tasks" else entry.train
            if config.data.source == "world" and not all(map(is_of_world, files)):
                raise ConfigError(
                    f"config: {key}: {name} is not in the embedded world; set data.source to hub, a mirror or a "
                    "folder, or take it out"
                )
            if config.data.source == "hub" and any(path.startswith("datasets/world/") for path in files):
                raise ConfigError(f"config: {key}: {name} is of the embedded world, but data.source is hub")
