"""Configuration and launch: what every rule file uses. Paths come from nanochat.config.layout."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir)))
from nanochat.config import (
    OWN,
    PERSONA,
    SECRETS,
    Layout,
    load_config,
    merge,
    pairs_of,
    read_yaml,
)
from nanochat.config.check import check
from nanochat.config.plan import fetch_plan
from nanochat.errors import ConfigError
from nanochat.model.scaling import base_plan

# Without a configuration file of the user's or a profile's, this is the laptop run.
try:
    base_config = (
        {}
        if workflow.configfiles
        else read_yaml(Path(workflow.basedir) / "config/tiny.yaml")
    )
    cfg = load_config(merge(base_config, config))
    plan = base_plan(cfg.depth, cfg.model, cfg.base, cfg.tokenizer.vocab_size)
    layout = Layout(cfg, plan.tokens)
    # A job of a running workflow has been checked, and who only wants to chat needs no data.
    chats = {"chat_ui", "chat_cli", "serve", "clean"} & set(sys.argv)
    check(layout, files=workflow.is_main_process and not chats)
except ConfigError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)

# The rules run `python` and `torchrun`: those beside this snakemake, unless an environment of their own is asked for.
# The scripts lie beside the Snakefile, which with --directory is not where the work is done.
prefix = f"set -euo pipefail; export PYTHONPATH='{workflow.basedir}'; "
# Threads that wait spin for some microseconds, which carries them from one small operation to the next, and then sleep:
# spinning on beside another busy process ran six times slower, sleeping at once made generation half as fast.
spins = os.environ.get("GOMP_SPINCOUNT", "5000")
prefix += f"export GOMP_SPINCOUNT={spins}; "
if "conda" not in str(workflow.deployment_settings.deployment_method).lower():
    prefix += f"export PATH='{Path(sys.executable).parent}':$PATH; "
shell.prefix(prefix)
ENVIRONMENT = f"../{cfg.execution.conda}"


# Token folders in ranges, `shard_[00000-00239]`: their names one by one are too long for a command line.
TRAIN_TOKENS = " ".join(map(shlex.quote, layout.train_tokens_ranges))


def settings(stage):
    """Exactly the settings that change a stage's artifact, one param each, so that a rerun's reason names the key."""
    return pairs_of(layout.settled, stage)


def made(wildcards):
    """What the files of a data folder wait for: the making of the folder they are linked from."""
    source = layout.sources[f"data/{wildcards.place}"]
    if source == f"{layout.world}/made":
        return ancient(source)
    # The user's own text may change at any time.
    return source if source == f"{layout.own_text}/made" else []


def source_of(wildcards):
    """Where the files of a data folder are taken from: `hub`, the address of a mirror, or a folder."""
    return layout.sources[f"data/{wildcards.place}"]


def plan_of(wildcards):
    """All that the run takes from there, so that the disk is checked for the whole of it before the first byte."""
    return fetch_plan(layout, f"data/{wildcards.place}").model_dump_json(
        exclude_defaults=True
    )


def chat_eval_threads(wildcards):
    """Cores of one chat evaluation: those of the stages run side by side, which uses them better than in turn."""
    return max(1, (workflow.cores or 8) // len(cfg.chat_stages))


def run_folder(wildcards):
    """The run's folder, for what serves it."""
    return layout.run


def batch(stage):
    """Total batch of a training stage in tokens, for its message."""
    return getattr(cfg, stage).total_batch_size or plan.total_batch_size


# Connections at a time where neither the command line nor the profile says.
if "download" not in workflow.global_resources:
    workflow.register_resource("download", 4)


wildcard_constraints:
    place=r"[^/]+",
    owner=r"[^/]+",
    name=r"[^/]+",
    path=r"(datasets|files)/.+",
    shard=r"shard_\d{5}",
    corpus=r"[^/]+",
    number=r"\d{5}",
    stage="mid|sft|rl",
