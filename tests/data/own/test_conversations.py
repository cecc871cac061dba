import gzip
import json
from pathlib import Path

import pytest

from nanochat.config.stages import OwnConversationsSection, OwnConversationsStage
from nanochat.data.conversation import validate
from nanochat.data.own.conversations import FILE, run
from nanochat.data.own.dialects import normalise
from nanochat.errors import DataError

STOP = OwnConversationsStage()
SKIP = OwnConversationsStage(own=OwnConversationsSection(on_damage="skip"))
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write(path: Path, rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read(out: Path) -> list:
    return [json.loads(line) for line in (out / FILE).read_text().splitlines()]


@pytest.mark.parametrize(
    "entry",
    [
        {"messages": TALK, "id": 4},
        TALK,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {**TALK[1], "name": "bot"}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    ],
)
def test_all_forms_become_one(entry):
    assert normalise(entry) == {"messages": TALK}


def test_system_messages_and_parts_stay():
    parts = [{"type": "python", "text": "6*7"}, {"type": "python_output", "text": "42"}]
    entry = [{"role": "developer", "content": "Be kind."}, TALK[0], {"role": "assistant", "content": parts}]
    found = normalise(entry)["messages"]
    assert found[0] == {"role": "system", "content": "Be kind."} and found[2]["content"] == parts
    sharegpt = [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    assert [m["role"] for m in normalise({"conversations": sharegpt})["messages"]] == ["system", "user", "assistant"]


WRONG = {
    "a string": ('"Hi"', r"expected \{\"messages\""),
    "nothing": ("{}", r"expected \{\"messages\""),
    "empty": ({"messages": []}, "at least one message"),
    "order": ([TALK[1]], "expected 'user'"),
    "role": ([{"role": "bot", "content": "x"}], "role is 'bot', expected one of"),
    "tool": ([TALK[0], {"role": "tool", "content": "42"}], "calls of tools"),
    "tool calls": ([TALK[0], {"role": "assistant", "content": None, "tool_calls": [{}]}], "calls of tools"),
    "picture": ([{"role": "user", "content": [{"type": "image_url"}]}], "part of type 'image_url'"),
    "null": ([TALK[0], {"role": "assistant", "content": None}], "expected a string or a list of parts, found None"),
    "blank": ([TALK[0], {"role": "assistant", "content": " "}], "content is empty"),
    "no answer": ([TALK[0]], "no message of the assistant"),
    "half": ('[{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "x"}]', "surrogate"),
    "sharegpt": ({"conversations": [{"from": "bing", "value": "x"}]}, "from is 'bing'"),
    "json": ("{", "not JSON"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, kind):
    row, message = WRONG[kind]
    source = write(tmp_path / "a.jsonl", [TALK, row])
    with pytest.raises(DataError, match=rf"1 of 2 conversations(.|\n)*a\.jsonl:2: .*{message}"):
        run(STOP, out=tmp_path / "out", files=[source])
    assert not (tmp_path / "out").exists()
    metrics = run(SKIP, out=tmp_path / "out", files=[source]).metrics
    assert metrics["conversations"] == 1 and sum(metrics["skipped"].values()) == 1
    assert metrics["problems"][0]["row"] == 2 and read(tmp_path / "out") == [{"messages": TALK}]


def test_all_wrong_lines_are_reported_at_once(tmp_path):
    first = write(tmp_path / "a.jsonl", [TALK, *["{"] * 8])
    second = write(tmp_path / "b.jsonl", [[TALK[1]]] * 5)
    second.write_bytes(second.read_bytes() + b'"\xff"\n')
    with pytest.raises(DataError) as caught:
        run(STOP, out=tmp_path / "out", files=[first, second])
    text = str(caught.value)
    assert "14 of 15 conversations" in text and "a.jsonl:9:" in text and "b.jsonl:2:" in text
    assert "b.jsonl:3:" not in text and "and 4 more" in text
    with pytest.raises(DataError, match="14 of 15 would be left out"):
        run(SKIP, out=tmp_path / "out", files=[first, second])


def test_the_result_is_checked_counted_and_without_copies(tmp_path):
    (tmp_path / "in").mkdir()
    write(
        tmp_path / "in/a.jsonl",
        [TALK, "", {"messages": TALK}, [*TALK, {"role": "user", "content": "ü\u2028"}, TALK[1]]],
    )
    (tmp_path / "in/b.jsonl.gz").write_bytes(
        gzip.compress(json.dumps([{**TALK[0], "content": "Ho"}, TALK[1]]).encode())
    )
    metrics = run(STOP, out=tmp_path / "out", files=list((tmp_path / "in").iterdir())).metrics
    counted = {key: metrics[key] for key in ("conversations", "turns", "characters", "duplicates", "skipped")}
    assert counted == {"conversations": 3, "turns": 4, "characters": 7 + 14 + 7, "duplicates": 1, "skipped": {}}
    lines = (tmp_path / "out" / FILE).read_text().split("\n")[:-1]
    assert len(lines) == 3
    for line in lines:
        validate(json.loads(line))


def test_a_damaged_file_stops_or_is_left_out_as_asked(tmp_path):
    good = write(tmp_path / "a.jsonl", [TALK])
    rows = "".join(json.dumps([{**TALK[0], "content": str(n)}, TALK[1]]) + "\n" for n in range(999))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-900])
    with pytest.raises(DataError, match=r"b\.jsonl\.gz.*truncated or damaged"):
        run(STOP, out=tmp_path / "out", files=[good, tmp_path / "b.jsonl.gz"])
    metrics = run(SKIP, out=tmp_path / "out", files=[good, tmp_path / "b.jsonl.gz"]).metrics
    assert metrics["conversations"] >= 1 and len(metrics["damaged_files"]) == 1
    with pytest.raises(DataError, match=r"notes\.txt: expected conversations as \.jsonl"):
        run(STOP, out=tmp_path / "out", files=[write(tmp_path / "notes.txt", [])])
    with pytest.raises(DataError, match="no conversation in there"):
        run(STOP, out=tmp_path / "out", files=[write(tmp_path / "c.jsonl", [])])


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_in_a_json_file_is_many_conversations_or_one(tmp_path, indent):
    other = [{**TALK[0], "content": "Ho"}, TALK[1]]
    for number, whole in enumerate(
        ([{"messages": TALK}, {"messages": other}], [TALK, other], {"messages": TALK}, TALK)
    ):
        (tmp_path / "a.json").write_text(json.dumps(whole, indent=indent))
        metrics = run(STOP, out=tmp_path / str(number), files=[tmp_path / "a.json"]).metrics
        assert metrics["conversations"] == (2 if number < 2 else 1)
        assert read(tmp_path / str(number))[0] == {"messages": TALK}
    (tmp_path / "a.json").write_text(json.dumps([{"messages": TALK}, {"messages": TALK[1:]}], indent=indent))
    with pytest.raises(DataError, match=r"1 of 2 conversations(.|\n)*a\.json:2: .*expected 'user'"):
        run(STOP, out=tmp_path / "out", files=[tmp_path / "a.json"])
    write(tmp_path / "a.json", [TALK, "", other])
    assert run(STOP, out=tmp_path / "lines", files=[tmp_path / "a.json"]).metrics["conversations"] == 2
