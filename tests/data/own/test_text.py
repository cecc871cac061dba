import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.config.files import find_files
from nanochat.config.stages import OwnTextSection, OwnTextStage, OwnTextView
from nanochat.data.own import spill as spill_module
from nanochat.data.own.cutting import cut
from nanochat.data.own.readers import read_documents
from nanochat.data.own.spill import Spill
from nanochat.data.own.tally import Tally
from nanochat.data.own.text import FOLDER, run
from nanochat.data.shards import documents
from nanochat.errors import ArtifactError, DataError
from tests.data.conftest import write_shard

WORDS = "The quick brown fox jumps over the lazy dog and goes home to sleep."


def stage(on_damage="stop", **text) -> OwnTextStage:
    return OwnTextStage(own=OwnTextSection(text=OwnTextView(**{"shards": 1, **text}), on_damage=on_damage))


def shards_of(out: Path, count: int) -> list[list[str]]:
    """Documents of the training shards and, last, of the validation shard."""
    assert sorted(p.name for p in (out / FOLDER).iterdir()) == [f"shard_{n:05d}.parquet" for n in range(count + 1)]
    return [list(documents(out / FOLDER / f"shard_{n:05d}.parquet")) for n in range(count + 1)]


def write_lines(path: Path, rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def zst(path: Path, content: bytes) -> Path:
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(content)
    return path


def gz(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def test_every_kind_of_file_gives_its_documents(tmp_path):
    files = tmp_path / "in"
    (files / "notes").mkdir(parents=True)
    texts = [f"document {n}: {WORDS}" for n in range(12)]
    (files / "notes/a.md").write_text(texts[0])
    (files / "notes/.hidden.md").write_text("not to be read")
    gz(files / "notes/b.txt.gz", texts[1].encode())
    zst(files / "notes/c.tex.zst", texts[2].encode())
    write_lines(files / "d.jsonl", [{"text": texts[3]}, {"text": texts[4], "id": 7}])
    gz(files / "e.jsonl.gz", json.dumps({"text": texts[5]}).encode())
    zst(files / "f.json.zst", b"\xef\xbb\xbf" + json.dumps({"text": texts[6]}).encode() + b"\r\n")
    write_shard(files / "g.parquet", texts[7:9])
    zst(files / "h.parquet.zst", write_shard(tmp_path / "h.parquet", texts[9:10]).read_bytes())
    table = pa.table({"text": pa.array(texts[10:], pa.large_string()).dictionary_encode()})
    pq.write_table(table, files / "i.parquet")
    (files / "picture.png").write_bytes(b"\x89PNG")
    found = find_files([str(files), str(files / "*.json.zst")], "own.text.files")
    paths = [Path(file) for file in found.files]
    manifest = run(stage(), out=tmp_path / "out", files=paths, others=found.others)
    train, validation = shards_of(tmp_path / "out", 1)
    assert sorted(train + validation) == sorted(texts) and len(validation) == 1
    assert manifest.stage == "own_text" and set(manifest.inputs) >= {"notes/a.md", "g.parquet"}
    metrics = manifest.metrics
    assert (metrics["documents"], metrics["train_documents"], metrics["val_documents"]) == (12, 11, 1)
    assert metrics["characters"] == sum(map(len, texts)) and metrics["skipped"] == {}
    assert {entry["documents"] for entry in metrics["files"]} == {1, 2} and len(metrics["files"]) == 9
    assert metrics["files_left_alone"] == 1


def test_shards_are_laid_out_like_the_public_ones(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [{"text": f"{n} {WORDS}"} for n in range(3000)])
    run(stage(shards=2, val_fraction=0.1), out=tmp_path / "out", files=[source])
    assert len(shards_of(tmp_path / "out", 2)[2]) == 300
    metadata = pq.read_metadata(tmp_path / "out" / FOLDER / "shard_00000.parquet")
    assert metadata.schema.names == ["text"] and metadata.row_group(0).num_rows == 1024
    assert metadata.row_group(0).column(0).compression == "ZSTD"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=60),
    shards=st.integers(1, 3),
    fraction=st.floats(0.01, 0.49),
    data=st.data(),
)
def test_every_document_is_in_one_place_whatever_the_order(tmp_path_factory, texts, shards, fraction, data):
    def spread(order):
        folder = tmp_path_factory.mktemp("spill")
        spill = Spill(folder, shards)
        for text in order:
            spill.add(text)
            if data.draw(st.booleans(), label="flush"):
                spill.flush()
        spill.flush()
        split = spill.split(fraction)
        return split, [list(spill.read(shard, split)) for shard in range(shards)]

    split, places = spread(texts)
    found = [text.decode() for place in places for text, _ in place]
    assert sorted(found) == sorted(set(texts)) and split.duplicates == len(texts) - len(set(texts))
    assert sum(held_out for place in places for _, held_out in place) == split.validation
    assert split.validation == max(1, -(-fraction * len(set(texts)) // 1))
    assert spread(data.draw(st.permutations(texts)))[1] == places


def test_file_order_and_names_change_nothing_in_the_shards(tmp_path):
    parts = [[{"text": f"{n} {WORDS}"} for n in range(start, 60, 3)] for start in range(3)]
    for name, order in (("x", (0, 1, 2)), ("y", (2, 0, 1))):
        (tmp_path / name).mkdir()
        for number, part in enumerate(order):
            write_lines(tmp_path / name / f"{number}.jsonl", parts[part])
        run(stage(shards=2), out=tmp_path / name / "out", files=sorted((tmp_path / name).glob("*.jsonl")))
    assert shards_of(tmp_path / "x/out", 2) == shards_of(tmp_path / "y/out", 2)


def test_small_buffers_change_nothing(tmp_path, monkeypatch):
    source = write_lines(tmp_path / "a.jsonl", [{"text": f"{n} {WORDS}"} for n in range(100)])
    run(stage(shards=3), out=tmp_path / "one", files=[source])
    monkeypatch.setattr(spill_module, "_BUFFER_BYTES", 1000)
    run(stage(shards=3), out=tmp_path / "two", files=[source])
    assert shards_of(tmp_path / "one", 3) == shards_of(tmp_path / "two", 3)


def test_copies_are_left_out_and_counted(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [{"text": WORDS}, {"text": "other"}, {"text": WORDS}])
    metrics = run(stage(), out=tmp_path / "out", files=[source, source]).metrics
    assert metrics["duplicates"] == 1 and metrics["documents"] == 2


@settings(max_examples=60, deadline=None)
@given(st.text("ab \n\r.", max_size=300), st.integers(2, 40), st.integers(1, 50))
def test_pieces_of_a_document_joined_are_the_document(text, limit, chunk):
    pieces = list(cut([text[n : n + chunk] for n in range(0, len(text), chunk)], limit))
    assert "".join(pieces) == text and all(0 < len(piece) <= limit for piece in pieces)
    assert pieces == list(cut([text], limit))


def test_documents_are_cut_where_a_reader_pauses():
    assert list(cut(["aaaa bbbb\ncccc\n\ndddd eeee"], 18)) == ["aaaa bbbb\ncccc\n\n", "dddd eeee"]
    assert list(cut(["aaaa bbbb cccc\ndddd eeee"], 18)) == ["aaaa bbbb cccc\n", "dddd eeee"]
    assert list(cut(["aaaa bbbb cccc dddd eeee"], 18)) == ["aaaa bbbb cccc ", "dddd eeee"]
    assert list(cut(["a" * 24], 18)) == ["a" * 18, "a" * 6]


def test_one_large_text_gives_many_documents(tmp_path):
    paragraphs = [f"Paragraph {n}. {WORDS * 3}" for n in range(200)]
    (tmp_path / "input.txt").write_text("\n\n".join(paragraphs))
    manifest = run(stage(document_chars=1000), out=tmp_path / "out", files=[tmp_path / "input.txt"])
    train, validation = shards_of(tmp_path / "out", 1)
    assert manifest.metrics["cut"] == 1 and len(train) + len(validation) > 40
    assert all(text.startswith("Paragraph") and text.rstrip().endswith("sleep.") for text in train + validation)


GOOD = [{"text": f"{n} {WORDS}"} for n in range(20)]


def test_bad_documents_are_left_out_counted_and_named(tmp_path):
    rows = [
        {"text": None}, {"text": " \n"}, {"text": 5}, "{not json", '["an array"]', {"body": "x"}, '{"text": "\\ud800"}',
    ]  # fmt: skip
    source = write_lines(tmp_path / "a.jsonl", [*rows, *GOOD])
    source.write_bytes(source.read_bytes() + b'{"text": "\xff\xfe"}\n')
    (tmp_path / "b.txt").write_bytes(b"good to the last byte\xff")
    (tmp_path / "c.txt").write_text("")
    parquet = pa.Array.from_buffers(pa.string(), 3, pa.array([b"fine", b"\xff", None]).buffers())
    pq.write_table(pa.table({"text": parquet}), tmp_path / "d.parquet")
    metrics = run(stage(), out=tmp_path / "out", files=sorted(tmp_path.glob("*.*"))).metrics
    assert metrics["skipped"] == {
        "null": 2, "empty": 2, "not a string": 1, "not JSON": 1, "not an object": 1, "no key": 1, "not UTF-8": 4,
    }  # fmt: skip
    assert metrics["documents"] == 21
    places = {(Path(p["file"]).name, p["row"]) for p in metrics["problems"]}
    rows = {("a.jsonl", row) for row in (*range(1, 8), 28)}
    assert places == rows | {("b.txt", 1), ("c.txt", 1), ("d.parquet", 2), ("d.parquet", 3)}
    assert next(p for p in metrics["problems"] if p["row"] == 6)["reason"].startswith("no key 'text' (it has 'body')")


def test_problems_are_listed_up_to_twenty(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [{"text": ""}] * 30 + [{"text": f"{n}"} for n in range(40)])
    metrics = run(stage(), out=tmp_path / "out", files=[source]).metrics
    assert len(metrics["problems"]) == 20 and metrics["skipped"] == {"empty": 30}


def test_never_silently_short(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", [{"text": "x"}, {"text": "y"}, {"text": "z"}] + [{"body": "q"}] * 4)
    with pytest.raises(DataError, match=r"4 of 7 would be left out \(no key: 4\).*a\.jsonl row 4 \(no key 'text'"):
        run(stage(), out=tmp_path / "out", files=[source])
    with pytest.raises(DataError, match=r"found 1 document.*expected at least 2"):
        run(stage(), out=tmp_path / "out", files=[write_lines(tmp_path / "b.jsonl", [{"text": "x"}])])
    with pytest.raises(DataError, match=r"training shard \d of 9 would be empty.*lower own\.text\.shards"):
        run(stage(shards=9), out=tmp_path / "out", files=[write_lines(tmp_path / "c.jsonl", GOOD[:5])])
    with pytest.raises(ArtifactError, match=r"nothing\.txt does not exist"):
        run(stage(), out=tmp_path / "out", files=[tmp_path / "nothing.txt"])
    with pytest.raises(DataError, match="no file to read"):
        run(stage(), out=tmp_path / "out", files=[])
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("spill.tmp"))


def damaged_row_group(path: Path) -> Path:
    write_shard(path, [f"document {n} {WORDS}" * 9 for n in range(32)], row_group_size=8)
    column = pq.read_metadata(path).row_group(2).column(0)
    begin = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    return path


PACKED = "".join(json.dumps({"text": f"{n} {WORDS} {n * n}"}) + "\n" for n in range(200)).encode()
DAMAGED = {
    "truncated.jsonl.gz": (lambda path: path.write_bytes(gzip.compress(PACKED)[:-400]), "truncated or damaged"),
    "truncated.jsonl.zst": (
        lambda path: path.write_bytes(zst(path, PACKED).read_bytes()[:-40]),
        "truncated or damaged",
    ),
    "no.txt.gz": (lambda path: path.write_bytes(b"plain after all"), "truncated or damaged"),
    "empty.jsonl.gz": (lambda path: path.write_bytes(b""), "0 bytes"),
    "group.parquet": (damaged_row_group, r"row group 2 of 4 \(rows 17 to 24\)"),
    "footer.parquet": (lambda path: path.write_bytes(b"PAR1 broken off"), "truncated or damaged"),
    "column.parquet": (lambda path: write_shard(path, ["a"], column="body"), "no column 'text', it has body"),
    "type.parquet": (lambda path: pq.write_table(pa.table({"text": [1, 2]}), path), "of type int64, expected string"),
    "picture.png": (lambda path: path.write_bytes(b"\x89PNG"), r"end in '\.png' are not read"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_stops_or_is_left_out_as_asked(tmp_path, name):
    make, message = DAMAGED[name]
    good = write_lines(tmp_path / "good.jsonl", GOOD)
    make(tmp_path / name)
    files = [good, tmp_path / name]
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        run(stage(), out=tmp_path / "out", files=files)
    assert not (tmp_path / "out").exists()
    metrics = run(stage("skip"), out=tmp_path / "out", files=files).metrics
    assert metrics["documents"] >= 20 and [Path(d["file"]).name for d in metrics["damaged_files"]] == [name]
    if name == "group.parquet":
        assert metrics["documents"] == 36


def test_every_layout_of_strings_is_read(tmp_path):
    texts = [f"{n} {WORDS}" for n in range(6)]
    pq.write_table(pa.table({"text": pa.array(texts).cast(pa.string_view())}), tmp_path / "a.parquet")
    assert run(stage(), out=tmp_path / "out", files=[tmp_path / "a.parquet"]).metrics["documents"] == 6


def test_long_documents_of_parquet_are_read_one_after_the_other(tmp_path):
    texts = [f"{n} " + "0123456789" * 200_000 for n in range(24)]
    source = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), source, use_dictionary=False, write_batch_size=1)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    pa.set_memory_pool(pool)
    try:
        begins = ["".join(one.chunks).split()[0] for one in read_documents(source, "text", Tally(), tmp_path)]
    finally:
        pa.set_memory_pool(before)
    assert begins == [str(n) for n in range(24)]
    assert pool.max_memory() < 12_000_000  # of 48


@pytest.mark.parametrize("packed", [False, True])
def test_a_flipped_bit_is_found_where_the_file_has_checksums(tmp_path, packed):
    plain = tmp_path / "a.parquet"
    table = pa.table({"text": ["z", "a colourless green idea", "a"]})
    pq.write_table(table, plain, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(plain.read_bytes())
    content[content.index(b"green")] ^= 1
    plain.write_bytes(content)
    source = zst(tmp_path / "b.parquet.zst", bytes(content)) if packed else plain
    with pytest.raises(DataError, match=rf"{source.name}: row group 0 of 1 \(rows 1 to 3\) .*CRC.*on_damage to skip"):
        run(stage(), out=tmp_path / "out", files=[source])


def test_a_row_group_with_fewer_rows_than_it_says_is_an_error(tmp_path, monkeypatch):
    source = write_shard(tmp_path / "a.parquet", [f"{n} {WORDS}" for n in range(32)], row_group_size=8)

    class Short(pq.ParquetFile):
        def iter_batches(self, *arguments, **named):
            return iter(list(super().iter_batches(*arguments, **named))[:-1])

    monkeypatch.setattr(pq, "ParquetFile", Short)
    with pytest.raises(DataError, match=r"a\.parquet: row group 0 of 4 \(rows 1 to 8\) ends before row 1: "):
        run(stage(), out=tmp_path / "out", files=[source])


PACKAGE = json.dumps({"name": "notes", "scripts": {f"task {n}": "run it" for n in range(60)}}, indent=2)


def test_lines_of_one_file_do_not_outweigh_whole_documents(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    for n in range(10):
        (notes / f"{n}.md").write_text(f"{n} {WORDS}" * 20)
    broken = notes / "broken.jsonl"
    broken.write_text("\n".join(PACKAGE.splitlines()))
    found = find_files([str(notes)], "own.text.files")
    metrics = run(stage(), out=tmp_path / "out", files=[Path(file) for file in found.files]).metrics
    assert metrics["documents"] == 10
    assert metrics["skipped"]["not JSON"] > 50
    broken.write_text(PACKAGE * 20)
    with pytest.raises(DataError, match=r"would be left out \(.*\), \d\d% of the data .*more than half"):
        run(stage(), out=tmp_path / "more", files=[Path(file) for file in found.files])


def test_json_of_a_project_between_notes_is_left_alone_unless_named(tmp_path):
    for n in range(10):
        (tmp_path / f"{n}.md").write_text(f"{n} {WORDS}" * 20)
    (tmp_path / "package.json").write_text(PACKAGE)
    found = find_files([str(tmp_path)], "own.text.files")
    files = [Path(file) for file in found.files]
    metrics = run(stage(), out=tmp_path / "out", files=files, others=found.others).metrics
    assert (metrics["documents"], metrics["skipped"], metrics["files_left_alone"]) == (10, {}, 1)
    named = [*files, tmp_path / "package.json"]
    assert run(stage(), out=tmp_path / "named", files=named).metrics["skipped"] == {"no key": 1}


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_in_a_json_file_is_read_as_its_items(tmp_path, indent):
    items = [*GOOD, {"text": "caf\u00e9 \ud83d\ude00"}, {"body": "x"}]
    (tmp_path / "a.json").write_text(json.dumps(items, indent=indent))
    gz(tmp_path / "b.json.gz", b"\xef\xbb\xbf" + json.dumps({"text": "one\nobject"}, indent=indent).encode())
    metrics = run(stage(), out=tmp_path / "out", files=[tmp_path / "a.json", tmp_path / "b.json.gz"]).metrics
    assert (metrics["documents"], metrics["skipped"]) == (22, {"no key": 1})
    assert metrics["problems"][0]["row"] == 22
    assert "caf\u00e9 \U0001f600" in [text for shard in shards_of(tmp_path / "out", 1) for text in shard]


def test_another_column_can_be_named(tmp_path):
    files = [write_shard(tmp_path / "a.parquet", ["one", "two"], column="body")]
    files.append(write_lines(tmp_path / "b.jsonl", [{"body": "three"}]))
    assert run(stage(column="body"), out=tmp_path / "out", files=files).metrics["documents"] == 3


def test_a_finished_result_is_only_linked_again(tmp_path):
    source = write_lines(tmp_path / "a.jsonl", GOOD)
    first = run(stage(), out=tmp_path / "out", files=[source])
    again = run(stage(), out=tmp_path / "out", files=[source])
    assert again.created == first.created and again.digest == first.digest
