"""CORE's items of all tasks in batches of like length, shared out over ranks, each recorded as soon as it is done."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.core import CoreTask, judge, rendered_items
from nanochat.evaluate.item_log import ItemLog
from nanochat.evaluate.recorder import Recorder, merge_records
from nanochat.evaluate.scores import Record
from nanochat.infer.scoring import batches_by_length, tokens_at_once, tree_losses
from nanochat.infer.trees import Tree, grow
from nanochat.model.gpt import GPT
from nanochat.runtime import World


@dataclass(frozen=True)
class Asked:
    """An item, ready to be judged.

    Attributes:
        task: the item's.
        index: its number.
        trees: its options as token sequences.
        facts: of its prompt, for its record.
    """

    task: CoreTask
    index: int
    trees: tuple[Tree, ...]
    facts: Record

    @property
    def size(self) -> int:
        """Positions that it takes."""
        return sum(tree.size for tree in self.trees)


Batch = Sequence[Asked]


def plan_batches(
    tasks: Iterable[CoreTask], max_items: int | None, tokenizer: Tokenizer, context: int, tokens: int
) -> list[Batch]:
    """All items in batches by length, longest first; what was done before and the number of ranks change none.

    Args:
        tasks: of a bundle.
        max_items: of each task at most; None takes all.
        tokenizer: of the model.
        context: its context.
        tokens: positions of a batch at most, unless an item alone has more.
    """
    items = []
    for task in tasks:
        indices = range(len(task.items) if max_items is None else min(max_items, len(task.items)))
        for index, rendered in zip(indices, rendered_items(task, indices, tokenizer), strict=True):
            trees = tuple(_small(tree) for tree in grow(rendered.spans, context))
            items.append(Asked(task, index, trees, rendered.facts(context)))
    return [[items[n] for n in batch] for batch in batches_by_length([item.size for item in items], tokens)]


def _small(tree: Tree) -> Tree:
    """The tree in half of the memory: the whole bundle's are held at a time."""
    parts = {name: getattr(tree, name).astype(np.int32) for name in ("tokens", "branches", "positions", "previous")}
    return replace(tree, **parts)


def share_out(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Indices for each rank, of about the same size in all: the largest one left goes to the least busy rank."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        rank = load.index(min(load))
        shares[rank].append(index)
        load[rank] += sizes[index]
    return shares


def evaluate_batch(model: GPT, batch: Batch) -> list[Record]:
    """Records of the items of a batch: one forward pass."""
    losses = tree_losses(model, [item.trees for item in batch])
    return [judge(item.task, item.index, found, item.facts) for item, found in zip(batch, losses, strict=True)]


def evaluate_tasks(
    model: GPT,
    tokenizer: Tokenizer,
    tasks: Sequence[CoreTask],
    *,
    max_items: int | None,
    device_batch_size: int,
    world: World,
    items: ItemLog,
) -> dict[str, list[Record]]:
    """Judge the items of all tasks, but for those that the log has already.

    Args:
        model: in evaluation mode.
        tokenizer: of the model.
        tasks: of a bundle.
        max_items: of each task at most; None takes all.
        device_batch_size: full rows in one forward pass.
        world: the ranks; each takes batches that amount to its share of the tokens.
        items: gets the records of finished batches, about every second.

    Returns:
        Task → records by item, with `seconds`, an item's share of the wall time, on every rank.

    Raises:
        ArtifactError: if the model's losses are not finite.
    """
    recorder = Recorder(items, world.size)
    known: dict[str, dict[int, Record]] = world.broadcast_object(items.finished() if world.is_main else None)
    context, tokens = model.config.sequence_length, tokens_at_once(model, device_batch_size)
    batches = plan_batches(tasks, max_items, tokenizer, context, tokens)
    asked: dict[str, set[int]] = {task.label: set() for task in tasks}
    for item in (item for batch in batches for item in batch):
        asked[item.task.label].add(item.index)
    left = [[item for item in batch if item.index not in known.get(item.task.label, {})] for batch in batches]
    left = [batch for batch in left if batch]
    share = share_out([sum(item.size for item in batch) for batch in left], world.size)[world.rank]
    mine = [left[index] for index in share]
    del batches, left  # the trees of what is done already, or by another rank
    recorder.expect(sum(map(len, mine)), sum(item.size for batch in mine for item in batch))
    try:
        for batch in mine:
            judged = zip(batch, evaluate_batch(model, batch), strict=True)
            recorder.add([(item.task.label, record, item.size) for item, record in judged])
    finally:  # what is finished is kept, whatever ended the loop
        recorder.flush()
    return merge_records(asked, known, world.gather_objects(recorder.records))
