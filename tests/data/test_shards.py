import logging
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.data.shards import Problem, ShardStats, check_parquet, documents, text_batches
from nanochat.errors import DataError
from tests.data.conftest import write_shard

NO_UTF8 = [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", b"cut \xe2\x82"]  # UTF-16's mark, Latin-1, half a pair, cut off


def write_bytes(path, values, row_group_size=8):
    """A shard whose column says that it is text, whatever its bytes are."""
    column = pa.array(values, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": column}), path, row_group_size=row_group_size)
    return path


def reason(value):
    """Why a document is left out, told with Python's own strings."""
    if value is None:
        return "null"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    return None if text.strip() else "empty"


def test_documents_come_in_order_and_gaps_are_counted(tmp_path):
    shard = write_shard(tmp_path / "s.parquet", ["a", None, "", "b\n", " \n\t", "cé"], row_group_size=2)
    stats = ShardStats()
    assert list(documents(shard, stats=stats)) == ["a", "b\n", "cé"]
    assert stats.skipped == {"null": 1, "empty": 2, "not_utf8": 0}
    assert (stats.documents, stats.characters, stats.bytes) == (3, 5, 6)
    assert stats.problems == [Problem(2, "null"), Problem(3, "empty"), Problem(5, "empty")]
    assert stats.as_metrics()["problems"][0] == {"row": 2, "reason": "null"}


def test_what_is_no_utf8_is_left_out_alone_and_named(tmp_path, caplog):
    values = [b"good %d" % n for n in range(40)]
    for row, wrong in zip((3, 17, 18, 39), NO_UTF8, strict=True):
        values[row] = wrong
    shard = write_bytes(tmp_path / "s.parquet", values)
    stats = ShardStats()
    with caplog.at_level(logging.WARNING):
        texts = list(documents(shard, stats=stats))
    assert texts == [value.decode() for value in values if value.startswith(b"good")]
    assert stats.skipped["not_utf8"] == 4
    assert [problem.row for problem in stats.problems] == [4, 18, 19, 40]
    assert f"{shard}: documents left out: 4 not_utf8; the first are rows 4 (not_utf8), 18 (not_utf8), 19" in caplog.text


def test_only_the_first_problems_are_remembered_and_all_are_counted(tmp_path, caplog):
    shard = write_shard(tmp_path / "s.parquet", [None, "a"] * 100)
    stats = ShardStats()
    for _ in range(2):
        assert len(list(documents(shard, stats=stats))) == 100
    assert stats.skipped["null"] == 200
    assert [problem.row for problem in stats.problems] == list(range(1, 41, 2))
    assert caplog.text.count("documents left out: 100 null; the first are rows 1 (null)") == 2


PIECES = st.sampled_from([b"a", b" ", b"\n", b"\xc3\xa9", b"\xe2\x82\xac", b"\xff", b"\xed\xa0\x80", b"\xe3\x80\x80"])
VALUES = st.lists(st.none() | st.lists(PIECES, max_size=6).map(b"".join) | st.just(b"long " * 40), max_size=60)


@settings(max_examples=60, deadline=None)
@given(values=VALUES, row_group=st.integers(1, 20), batch_bytes=st.integers(1, 300))
def test_every_row_is_given_out_or_counted(tmp_path_factory, values, row_group, batch_bytes):
    shard = write_bytes(tmp_path_factory.getbasetemp() / "any.parquet", values, row_group)
    expected = [value.decode() for value in values if reason(value) is None]
    left_out = [(row, why) for row, value in enumerate(values, 1) if (why := reason(value))]
    one, other = ShardStats(), ShardStats()
    assert list(documents(shard, stats=one)) == expected
    batches = list(text_batches(shard, stats=other, batch_bytes=batch_bytes))
    assert [text for batch in batches for text in batch.to_pylist()] == expected
    assert one == other
    assert (one.documents, sum(one.skipped.values())) == (len(expected), len(left_out))
    assert (one.characters, one.bytes) == (sum(map(len, expected)), sum(len(text.encode()) for text in expected))
    assert [(problem.row, problem.reason) for problem in one.problems] == left_out[:20]
    sizes = [[len(text.encode()) for text in batch.to_pylist()] for batch in batches]
    assert all(sum(batch) <= batch_bytes or len(batch) == 1 for batch in sizes)
    # Full: the next document would not have fitted.
    assert all(sum(batch) + after[0] > batch_bytes for batch, after in pairwise(sizes))
    for batch in batches:
        batch.validate(full=True)
        assert batch.type == pa.large_string()
        assert batch.null_count == 0


@pytest.mark.parametrize("store_schema", [True, False])
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=["string", "large_string", "string_view", "dictionary"],
)
def test_every_layout_of_strings_is_read(tmp_path, kind, store_schema):
    texts = ["a", None, "é", "a", "a document that a view does not hold inline"] * 7
    plain = pa.array(texts, pa.string())
    column = plain.dictionary_encode() if pa.types.is_dictionary(kind) else plain.cast(kind)
    chunked = pa.chunked_array([column[:9], column[9:]])
    shard = tmp_path / "s.parquet"
    pq.write_table(pa.table({"id": range(35), "text": chunked}), shard, row_group_size=6, store_schema=store_schema)
    stats = ShardStats()
    assert list(documents(shard, stats=stats)) == [text for text in texts if text]
    assert stats.skipped["null"] == 7


def test_a_shard_without_rows_is_no_error(tmp_path):
    assert list(documents(write_shard(tmp_path / "s.parquet", []))) == []
    assert list(text_batches(write_shard(tmp_path / "s.parquet", ["", None]))) == []


@pytest.mark.parametrize("reader", [documents, text_batches])
def test_a_document_of_50_mb_takes_memory_for_a_few_of_it(tmp_path, reader):
    size = 50_000_000
    texts = [f"short {n} " * 100 for n in range(600)]
    texts[333] = "a very long document " * (size // 21)
    shard = write_shard(tmp_path / "s.parquet", texts, row_group_size=1024)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    pa.set_memory_pool(pool)
    try:
        stats = ShardStats()
        longest = max(len(given) if reader is documents else _bytes_of(given) for given in reader(shard, stats=stats))
    finally:
        pa.set_memory_pool(before)
    assert longest == len(texts[333])
    assert stats.bytes == sum(map(len, texts))
    assert pool.max_memory() < 5 * size


def _bytes_of(batch):
    return sum(value.as_buffer().size for value in batch)


def test_many_long_documents_are_read_one_after_the_other(tmp_path):
    texts = [f"{n} " + "0123456789" * 200_000 for n in range(24)]
    shard = tmp_path / "s.parquet"
    # Laid out for reading in small parts: small pages, nothing held in a dictionary.
    pq.write_table(pa.table({"text": texts}), shard, use_dictionary=False, write_batch_size=1)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.system_memory_pool())
    pa.set_memory_pool(pool)
    try:
        assert [batch[0].as_py().split()[0] for batch in text_batches(shard, batch_bytes=1 << 20)] == [
            str(n) for n in range(24)
        ]
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 12_000_000  # of 48


@pytest.mark.parametrize("kept", [0, 1, 50, 0.5, 0.999])
def test_a_truncated_shard_is_one_clear_error(tmp_path, kept):
    shard = write_shard(tmp_path / "s.parquet", [f"document {n}" for n in range(200)])
    content = shard.read_bytes()
    shard.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"s\.parquet \([\d,]+ bytes\).*truncated.*fetch it again"):
        list(documents(shard))


def damage(shard, group, begin=0.0, end=1.0):
    """Overwrite a part of a row group's column."""
    column = pq.read_metadata(shard).row_group(group).column(0)
    first = column.dictionary_page_offset or column.data_page_offset
    begin, end = (first + int(share * column.total_compressed_size) for share in (begin, end))
    content = bytearray(shard.read_bytes())
    content[begin:end] = b"\xff" * (end - begin)
    shard.write_bytes(content)


def test_a_damaged_row_group_is_named_with_its_rows(tmp_path):
    shard = write_shard(tmp_path / "s.parquet", [f"document {n} " * 50 for n in range(64)], row_group_size=16)
    damage(shard, 2)
    got = []
    with pytest.raises(DataError, match=r"s\.parquet: row group 2 of 4 \(rows 33 to 48\) .*fetch it again"):
        for text in documents(shard):
            got.append(text)
    assert len(got) == 32
    with pytest.raises(DataError, match=r"row group 2 of 4 \(rows 33 to 48\)"):
        list(text_batches(shard))


@settings(max_examples=60, deadline=None)
@given(begin=st.floats(0, 1), length=st.floats(0.001, 1), compression=st.sampled_from(["none", "snappy", "zstd"]))
def test_a_damaged_shard_is_never_silently_short(tmp_path_factory, begin, length, compression):
    texts = [f"document {n} of some {n * 7919} words" * (n % 5 + 1) for n in range(64)]
    shard = tmp_path_factory.getbasetemp() / "damaged.parquet"
    pq.write_table(pa.table({"text": texts}), shard, row_group_size=16, compression=compression)
    damage(shard, 1, begin, min(1.0, begin + length))
    stats = ShardStats()
    try:
        given_out = list(documents(shard, stats=stats))
    except DataError as error:
        assert "row group 1 of 4 (rows 17 to 32)" in str(error)
    else:
        assert len(given_out) + sum(stats.skipped.values()) == 64


def test_a_flipped_bit_is_found_where_the_file_has_checksums(tmp_path):
    shard = tmp_path / "s.parquet"
    table = pa.table({"text": ["z", "a colourless green idea", "a"]})
    pq.write_table(table, shard, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(shard.read_bytes())
    content[content.index(b"green")] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"row group 0 of 1 \(rows 1 to 3\) cannot be read.*CRC"):
        list(documents(shard))


def test_another_schema_is_named(tmp_path):
    shard = write_shard(tmp_path / "s.parquet", ["a"], column="content")
    with pytest.raises(DataError, match=r"no column 'text', it has content"):
        list(documents(shard))
    assert list(documents(shard, column="content")) == ["a"]
    wrong = {"int64": [1, 2], "binary": [b"a"], "list": [["a"]], "int32": pa.array([1]).cast(pa.int32())}
    for kind, column in wrong.items():
        pq.write_table(pa.table({"text": column}), shard)
        with pytest.raises(DataError, match=rf"of type {kind}.*, expected string"):
            list(documents(shard))
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), shard)
    with pytest.raises(DataError, match="more than one column 'text'"):
        list(documents(shard))
    with pytest.raises(DataError, match="does not exist"):
        check_parquet(tmp_path / "missing.parquet")


@pytest.mark.shared
def test_real_shards_are_read_whole(shared_hub):
    shard = shared_hub / "datasets/karpathy/climbmix-400b-shuffle/shard_06542.parquet"
    stats = ShardStats()
    assert sum(map(len, documents(shard, stats=stats))) == stats.characters
    assert stats.documents + sum(stats.skipped.values()) == check_parquet(shard).num_rows == 355
