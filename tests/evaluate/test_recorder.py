import logging

import pytest

from nanochat.evaluate.item_log import ItemLog
from nanochat.evaluate.recorder import Recorder, merge_records


def test_time_is_shared_out_by_tokens_and_told_now_and_then(tmp_path, caplog):
    now = [100.0]
    taken = Recorder(ItemLog(tmp_path, 0), ranks=2, clock=lambda: now[0])
    taken.expect(40)
    with caplog.at_level(logging.INFO):
        for item in range(20):
            now[0] += 0.3
            taken.add([("a" if item % 4 else "b", {"item": item}, 30 if item % 4 else 10)])
        taken.flush()
    kept = ItemLog(tmp_path, 0).finished()
    seconds = {task: sum(record["seconds"] for record in items.values()) for task, items in kept.items()}
    assert sum(seconds.values()) == pytest.approx(20 * 0.3 / 2)
    assert seconds["a"] == pytest.approx(9 * seconds["b"])
    assert taken.records == {task: list(items.values()) for task, items in kept.items()}
    [line] = caplog.messages
    assert line == "17 of 40 items of this rank, 3.3 items/s, 7 s left"


def test_records_of_earlier_starts_and_of_all_ranks_are_put_together():
    def record(item, origin):
        return {"item": item, "from": origin}

    earlier = {"a": {4: record(4, "log"), 9: record(9, "log")}, "left_out": {0: record(0, "log")}}
    parts = [{"a": [record(5, 0), record(0, 0)]}, {"b": [record(1, 1)], "a": [record(2, 1)]}]
    merged = merge_records({"a": [0, 2, 4, 5], "b": {1, 3}, "c": []}, earlier, parts)
    assert merged == {
        "a": [record(0, 0), record(2, 1), record(4, "log"), record(5, 0)],
        "b": [record(1, 1)],
        "c": [],
    }
