import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nanochat.data.shards import ShardStats, check_parquet, documents
from nanochat.errors import DataError
from tests.data.conftest import write_shard


def test_documents_come_in_order_and_gaps_are_counted(tmp_path):
    shard = write_shard(tmp_path / "s.parquet", ["a", None, "", "b\n", " \n\t", "c"], row_group_size=2)
    stats = ShardStats()
    assert list(documents(shard, stats=stats)) == ["a", "b\n", "c"]
    assert stats.skipped == {"null": 1, "empty": 2}
    assert (stats.documents, stats.characters) == (3, 4)


@pytest.mark.parametrize("kept", [0, 1, 50, 0.5, 0.999])
def test_a_truncated_shard_is_one_clear_error(tmp_path, kept):
    shard = write_shard(tmp_path / "s.parquet", [f"document {n}" for n in range(200)])
    content = shard.read_bytes()
    shard.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(DataError, match=r"s\.parquet \([\d,]+ bytes\).*truncated.*fetch it again"):
        list(documents(shard))


def test_a_damaged_row_group_is_named(tmp_path):
    shard = write_shard(tmp_path / "s.parquet", [f"document {n} " * 50 for n in range(64)], row_group_size=16)
    column = pq.read_metadata(shard).row_group(2).column(0)
    begin = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(shard.read_bytes())
    content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    shard.write_bytes(content)
    got = []
    with pytest.raises(DataError, match="row group 2 of 4"):
        for text in documents(shard):
            got.append(text)
    assert len(got) == 32


def test_another_schema_is_named(tmp_path):
    shard = write_shard(tmp_path / "s.parquet", ["a"], column="content")
    with pytest.raises(DataError, match=r"no column 'text', it has content"):
        list(documents(shard))
    pq.write_table(pa.table({"text": [1, 2]}), shard)
    with pytest.raises(DataError, match="of type int64, expected string"):
        list(documents(shard))
    with pytest.raises(DataError, match="does not exist"):
        check_parquet(tmp_path / "missing.parquet")


@pytest.mark.shared
def test_real_shards_are_read_whole(shared_hub):
    shard = shared_hub / "datasets/karpathy/climbmix-400b-shuffle/shard_06542.parquet"
    stats = ShardStats()
    assert sum(map(len, documents(shard, stats=stats))) == stats.characters
    assert stats.documents + sum(stats.skipped.values()) == check_parquet(shard).num_rows == 355
