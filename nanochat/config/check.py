"""What can be said of a run before its first job."""

from pathlib import Path

from nanochat.config.catalogue import is_of_world
from nanochat.config.layout import Layout
from nanochat.config.own import OWN
from nanochat.config.plan import fetch_plan
from nanochat.errors import ConfigError


def check(layout: Layout, *, files: bool = True) -> None:
    """Refuse tasks that the source does not have, more shards than there are, and files that are not there.

    Args:
        layout: of the run.
        files: whether to look for files, the user's own and those of a local folder; a chat needs none of them.

    Raises:
        ConfigError: naming the key.
    """
    assert layout.texts
    config = layout.config
    stages = {"mid.mixture": config.mid.mixture, "sft.mixture": config.sft.mixture}
    stages |= {"chat_eval.tasks": config.chat_eval.tasks, "rl.task": [config.rl.task] if config.rl.enabled else []}
    for key, names in stages.items():
        for name in names:
            if name not in config.own.tasks:
                _check_task(layout, key, name)
    if files:
        used = {OWN} & set(config.data.shares) | set(config.own.tasks) & {*config.mid.mixture, *config.sft.mixture}
        for name in sorted(used):
            layout.input_files(name)
        _check_folder(layout)


def _check_task(layout: Layout, key: str, name: str) -> None:
    source = layout.config.data.source
    entry = layout.catalogue.tasks[name]
    files = entry.test if key == "chat_eval.tasks" else entry.train
    if source == "world" and not all(map(is_of_world, files)):
        raise ConfigError(
            f"config: {key}: {name} is not in the embedded world; set data.source to hub, a mirror or a folder, or "
            "take it out"
        )
    public = layout.catalogue.urls
    if source == "hub" and any(is_of_world(path) and path not in public for path in files):
        raise ConfigError(f"config: {key}: {name} is of the embedded world, but data.source is hub")


def _check_folder(layout: Layout) -> None:
    """A local folder is asked for everything that is not yet in place."""
    source = layout.config.data.source
    if source in ("hub", "world") or source.startswith(("http://", "https://")):
        return
    folder = Path(source)
    if not folder.is_dir():
        raise ConfigError(
            f"config: data.source = {source}: there is no such folder (seen from {Path.cwd()}); expected world, hub, "
            "the address of a mirror, or a folder laid out like the hub"
        )
    for path in fetch_plan(layout, layout.data).paths(layout.catalogue):
        if (folder / path).exists() or (Path(layout.data) / path).exists():
            continue
        for text in layout.texts:
            if path.startswith(f"datasets/{text.entry.repo}/"):
                raise ConfigError(
                    f"config: data.source = {source} has no {path}; with data.train_shards = {text.wanted}, "
                    f"{text.name} needs the shards 0 to {text.wanted - 1} and {text.val}"
                )
        raise ConfigError(f"config: data.source = {source} has no {path}; take its task out of the mixtures, or add it")
