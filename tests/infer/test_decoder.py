import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanochat.infer.decoder import Decoder
from nanochat.infer.kv_cache import KVCache
from nanochat.infer.products import attend_one, onednn_is_exact, product
from tests.infer.fixtures import make_model

VOCAB = 300
MODELS = {
    (arch, windows): make_model(VOCAB, arch, context=160, windows=windows)
    for arch, windows in (("modern", "SL"), ("modern", "SSL"), ("classic", "L"))
}


def rows_of(count, length, seed=0):
    return torch.randint(0, VOCAB, (count, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", MODELS, ids=str)
def test_cached_rows_of_different_lengths_continue_exactly(kind):
    model = MODELS[kind]
    ids = rows_of(5, 160)
    with torch.inference_mode():
        whole = model(ids)
    decoder = Decoder(model)
    cache = decoder.cache(6, 160)
    counts = np.array([150, 129, 64, 33, 1])
    decoder.read(ids, counts, cache)
    assert cache.lengths.tolist() == [*counts, 0]
    for step in range(10):
        places = torch.from_numpy(counts + step)
        logits = decoder.step(ids.gather(1, places[:, None])[:, 0], cache)
        assert torch.allclose(logits, whole[torch.arange(5), places], atol=1e-4)


@pytest.mark.parametrize("kind", MODELS, ids=str)
def test_rows_from_nothing_and_a_row_that_takes_anothers_place(kind):
    model = MODELS[kind]
    ids = rows_of(3, 80, seed=1)
    with torch.inference_mode():
        whole = model(ids)
    decoder = Decoder(model)
    cache = decoder.cache(3, 80)
    for place in range(70):
        logits = decoder.step(ids[:, place], cache)
    assert torch.allclose(logits, whole[:, 69], atol=1e-4)
    cache.take(cache, 2, [0])
    logits = decoder.step(ids[[2, 1, 2], 70], cache)
    assert torch.equal(logits[0], logits[2])
    assert torch.allclose(logits[0], whole[2, 70], atol=1e-4)


def test_a_prefix_read_once_serves_other_rows_and_larger_caches():
    model = MODELS["modern", "SL"]
    ids = rows_of(2, 150, seed=2)
    ids[1, :128] = ids[0, :128]
    decoder = Decoder(model)
    prefix, apart, shared = decoder.cache(1, 128), decoder.cache(2, 160), decoder.cache(2, 160)
    decoder.read(ids[:1, :128], np.array([128]), prefix)
    shared.take(prefix, 0, [0, 1])
    decoder.read(ids[:, 128:], np.array([22, 22]), shared)
    decoder.read(ids, np.array([150, 150]), apart)
    one = torch.zeros(2, dtype=torch.int64)
    assert torch.allclose(decoder.step(one, shared), decoder.step(one, apart), atol=1e-4)


def test_layers_with_a_window_keep_little_more_than_it():
    model = MODELS["modern", "SL"]
    cache = Decoder(model).cache(4, 160)
    assert [keys.shape[2] for keys in cache.keys] == [64, 160, 160]
    assert cache.nbytes == 2 * 4 * 4 * 2 * 8 * (64 + 160 + 160)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 140), min_size=1, max_size=9),
    company=st.lists(st.integers(1, 150), max_size=9),
    kind=st.sampled_from(sorted(MODELS)),
    chosen=st.sampled_from(["highest", "medium"]),
)
@pytest.mark.skipif(not onednn_is_exact(), reason="no float32 products of oneDNN here: equal up to rounding only")
def test_logits_of_a_row_are_the_same_to_the_bit_whatever_stands_beside_it(lengths, company, kind, chosen):
    torch.set_float32_matmul_precision(chosen)  # what training or an evaluation chooses for the process changes nothing
    decoder = Decoder(MODELS[kind])
    lengths = sorted(lengths, reverse=True)
    ids = rows_of(len(lengths), 150, seed=len(lengths))

    def logits(own, others):
        every = torch.cat((ids[own], rows_of(len(others), 150, seed=7)))
        counts = np.array([*(lengths[row] for row in own), *others])
        order = np.argsort(-counts, kind="stable")
        cache = decoder.cache(len(counts), 160)
        decoder.read(every[order], counts[order], cache)
        found = [decoder.step(torch.full((len(counts),), token), cache) for token in (1, 2, 3)]
        back = np.argsort(order)[: len(own)]
        return torch.stack(found)[:, torch.from_numpy(back)]

    together = logits(list(range(len(lengths))), company)
    for row in range(len(lengths)):
        assert torch.equal(logits([row], [])[:, 0], together[:, row])


def test_products_equal_plain_ones():
    generator = torch.Generator().manual_seed(0)
    weight, base = (torch.randn(shape, generator=generator) for shape in ((48, 100), (7, 100)))
    for rows in (1, 3, 7):
        x = torch.randn((rows, 48), generator=generator)
        assert torch.allclose(product(x, weight), x @ weight, atol=1e-5)
        assert torch.allclose(product(x, weight, base[:rows]), base[:rows] + x @ weight, atol=1e-5)
    assert torch.backends.mkldnn.matmul.fp32_precision in ("none", "ieee")  # left as it was


@pytest.mark.parametrize("heads", [2, 4, 8])
def test_attention_of_one_query_equals_the_fused_one(heads):
    generator = torch.Generator().manual_seed(heads)
    q, keys, values = (torch.randn(shape, generator=generator) for shape in ((3, heads, 16), *[(3, 2, 48, 16)] * 2))
    mask = torch.zeros(3, 1, 1, 48).masked_fill(
        torch.arange(48) >= torch.tensor([5, 48, 20])[:, None, None, None], -torch.inf
    )
    for used in (None, mask):
        expected = torch.nn.functional.scaled_dot_product_attention(
            q.unsqueeze(2), keys, values, attn_mask=used, scale=0.3, enable_gqa=True
        )
        assert torch.allclose(attend_one(q, keys, values, used, 0.3), expected.flatten(1), atol=1e-5)


@pytest.mark.parametrize("kind", MODELS, ids=str)
def test_the_faster_way_of_a_single_row_computes_the_same(kind):
    decoder = Decoder(MODELS[kind])
    ids = rows_of(1, 60, seed=3)
    usual, fast = decoder.cache(1, 160), decoder.cache(1, 160)
    for place in range(60):
        logits = decoder.step(ids[:, place], fast, alone=True)
        assert torch.allclose(logits, decoder.step(ids[:, place], usual), atol=1e-4)


def test_a_full_cache_is_an_error_not_a_wrong_answer():
    model = MODELS["classic", "L"]
    decoder = Decoder(model)
    cache = decoder.cache(1, 8)
    decoder.read(rows_of(1, 8), np.array([8]), cache)
    with pytest.raises(ValueError, match="9 tokens"):
        decoder.step(torch.tensor([1]), cache)
    with pytest.raises(ValueError, match="10 tokens"):
        decoder.read(rows_of(1, 2), np.array([2]), cache)
    with pytest.raises(ValueError, match="context of 160"):
        KVCache(model.config, 1, 161)
