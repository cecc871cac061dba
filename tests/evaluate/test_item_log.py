import signal
import subprocess
import sys

from nanochat.evaluate.item_log import FinishedParts, ItemLog

WRITER = """
import sys
from pathlib import Path
from nanochat.evaluate.item_log import ItemLog

log = ItemLog(Path(sys.argv[1]), 0)
for item in range(10**9):
    log.add({"homes": [{"item": 2 * item}, {"item": 2 * item + 1}], "who": [{"item": item, "text": "x" * 5000}]})
    if item == 3:
        print("written", flush=True)
"""


def test_what_is_added_is_there_again(tmp_path):
    log = ItemLog(tmp_path / "new", 0)
    assert log.finished() == {}
    log.add({"homes": [{"item": 3, "correct": True}], "who": [{"item": 0, "text": "ü\n"}]})
    log.add({"homes": [{"item": 1, "correct": False}]})
    ItemLog(tmp_path / "new", 11).add({"homes": [{"item": 2, "correct": True}]})
    assert ItemLog(tmp_path / "new", 5).finished() == {
        "homes": {item: {"item": item, "correct": item > 1} for item in (1, 2, 3)},
        "who": {0: {"item": 0, "text": "ü\n"}},
    }


def test_the_first_record_of_an_item_counts(tmp_path):
    for value in (1, 2):
        ItemLog(tmp_path, 0).add({"homes": [{"item": 3, "value": value}]})
    assert ItemLog(tmp_path, 0).finished() == {"homes": {3: {"item": 3, "value": 1}}}


def test_every_torn_line_is_ignored_and_the_next_one_is_not(tmp_path):
    ItemLog(tmp_path, 0).add({"homes": [{"item": 0}, {"item": 1}]})
    path = tmp_path / "items-0.jsonl"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole + whole.replace(b'"homes"', b'"other"')[:size])
        log = ItemLog(tmp_path, 0)
        complete = size == len(whole) - 1  # all but the line break
        assert log.finished().get("other", {}).keys() == ({0, 1} if complete else set()), size
        log.add({"homes": [{"item": 2}]})
        assert log.finished()["homes"].keys() == {0, 1, 2}, size
        assert "other" not in log.finished() or complete


def test_lines_of_another_shape_are_ignored(tmp_path):
    lines = [
        "null",
        "3",
        "[1]",
        '{"homes": 3}',
        '{"homes": [3]}',
        '{"homes": [{"item": "0"}]}',
        '{"homes": [{"item": true}]}',
        '{"homes": [{}]}',
        "",
        '{"homes": [{"item": 7}]}',
        '{"homes": [{"item": 8}], "who": [1]}',
    ]
    (tmp_path / "items-0.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    (tmp_path / "task-bpb.json").write_text("{}")
    assert ItemLog(tmp_path, 0).finished() == {"homes": {7: {"item": 7}}}


def test_a_killed_process_leaves_whole_additions(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None and one.stdout.readline() == b"written\n"
        one.send_signal(signal.SIGKILL)
    found = ItemLog(tmp_path, 0).finished()
    count = len(found["who"])
    assert count >= 4
    assert found["homes"].keys() == set(range(2 * count)) and found["who"].keys() == set(range(count))


def test_finished_parts(tmp_path):
    finished = FinishedParts(tmp_path)
    assert finished.load("a") is None
    finished.save("a", {"values": [1]})
    assert finished.load("a") == {"values": [1]} and finished.load("b") is None
    for torn in (b'{"recor', b"\xff\xfe"):
        (tmp_path / "part-b.json").write_bytes(torn)
        assert finished.load("b") is None
    assert ItemLog(tmp_path, 0).finished() == {}
