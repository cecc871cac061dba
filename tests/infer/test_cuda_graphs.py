import numpy as np
import pytest
import torch

from nanochat.infer.cuda_graphs import RecordedSteps
from nanochat.infer.decoder import Decoder
from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from tests.infer.fixtures import make_model


def run_again(work):
    """A recording as a GPU makes it: the same work on the same memory."""
    result = work()
    return lambda: result.copy_(work()), result


@pytest.mark.parametrize("windows", ["L", "SL"])
def test_rounded_up_rows_and_places_change_nothing(windows):
    decoder = Decoder(make_model(300, context=160, windows=windows))
    counts = np.array([140, 70, 3, 1, 1])
    ids = torch.randint(0, 300, (5, 140), generator=torch.Generator().manual_seed(0))
    plain, other = decoder.cache(7, 160), decoder.cache(7, 160)
    for cache in (plain, other):
        decoder.read(ids, counts, cache)
    recorded = RecordedSteps(decoder, other, run_again)
    for place, rows in enumerate((5, 5, 3, 4, 1, 5)):
        tokens = ids[:rows, place]
        logits = recorded.step(tokens, other).clone()
        assert torch.allclose(logits, decoder.step(tokens, plain), atol=1e-4)
        assert other.lengths.tolist() == plain.lengths.tolist()
    with pytest.raises(ValueError, match="another cache"):
        recorded.step(ids[:1, 0], plain)


@pytest.mark.gpu
def test_a_gpu_replays_what_it_would_compute(tokenizer):
    model = make_model(tokenizer.vocab_size).to("cuda")
    prompts = [[1, 2, 3], [4] * 40, [5, 6], [7] * 70, [8]]
    params = [SamplingParams(max_tokens=20, temperature=0, stop=frozenset()) for _ in prompts]
    plain = Engine(model, tokenizer, slots=3).generate(prompts, params)
    replayed = Engine(model, tokenizer, slots=3, cuda_graphs=True).generate(prompts, params)
    assert [one.ids for one in replayed] == [one.ids for one in plain]
