"""CORE's items of all tasks in batches of like length, shared out over ranks, each recorded as soon as it is done."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.core import CoreTask, Rendered, judge, render_items
from nanochat.evaluate.item_log import ItemLog
from nanochat.evaluate.scores import Record
from nanochat.infer.scoring import batches_by_length, tokens_at_once, tree_losses
from nanochat.infer.trees import Tree, grow
from nanochat.model.gpt import GPT
from nanochat.runtime import World

log = logging.getLogger(__name__)

_REPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Asked:
    """An item, ready to be judged."""

    task: CoreTask
    index: int
    rendered: Rendered
    trees: tuple[Tree, ...]

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
        for index, rendered in zip(indices, render_items(task, indices, tokenizer), strict=True):
            items.append(Asked(task, index, rendered, tuple(grow(rendered.spans, context))))
    return [[items[n] for n in batch] for batch in batches_by_length([item.size for item in items], tokens)]


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
    context = model.config.sequence_length
    return [
        judge(item.task, item.index, item.rendered, found, context) for item, found in zip(batch, losses, strict=True)
    ]


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
        items: gets the records of each batch when it is done.

    Returns:
        Task → records by item, with `seconds`, an item's share of the wall time, on every rank.
    """
    context, tokens = model.config.sequence_length, tokens_at_once(model, device_batch_size)
    known: dict[str, dict[int, Record]] = world.broadcast_object(items.finished() if world.is_main else None)
    batches = plan_batches(tasks, max_items, tokenizer, context, tokens)
    left = [[item for item in batch if item.index not in known.get(item.task.label, {})] for batch in batches]
    left = [batch for batch in left if batch]
    share = share_out([sum(item.size for item in batch) for batch in left], world.size)[world.rank]
    new = _evaluate_share(model, [left[index] for index in share], world, items)
    asked = {(item.task.label, item.index) for batch in batches for item in batch}
    records: dict[str, dict[int, Record]] = {task.label: {} for task in tasks}
    for found in (known, *world.gather_objects(new)):
        for label, by_item in found.items():
            records.setdefault(label, {}).update({i: r for i, r in by_item.items() if (label, i) in asked})
    return {task.label: [record for _, record in sorted(records[task.label].items())] for task in tasks}


def _evaluate_share(
    model: GPT, batches: Sequence[Batch], world: World, items: ItemLog
) -> Mapping[str, Mapping[int, Record]]:
    """The batches of this rank, one after the other."""
    new: dict[str, dict[int, Record]] = {}
    total = sum(item.size for batch in batches for item in batch)
    count = sum(map(len, batches))
    begin = reported = time.monotonic()
    done = done_items = 0
    for batch in batches:
        start = time.monotonic()
        records = evaluate_batch(model, batch)
        tokens = sum(item.size for item in batch)
        per_token = (time.monotonic() - start) / tokens / world.size
        by_task: dict[str, list[Record]] = {}
        for item, record in zip(batch, records, strict=True):
            record = record | {"seconds": round(item.size * per_token, 6)}
            by_task.setdefault(item.task.label, []).append(record)
            new.setdefault(item.task.label, {})[item.index] = record
        items.add(by_task)
        done, done_items = done + tokens, done_items + len(batch)
        now = time.monotonic()
        if world.is_main and (now - reported >= _REPORT_SECONDS or done == total):
            reported = now
            left = (total - done) * (now - begin) / done
            rate = done_items / (now - begin)
            share = " of this rank" if world.size > 1 else ""
            log.info("CORE: %d of %d items%s, %.1f items/s, %.0f s left", done_items, count, share, rate, left)
    return new
