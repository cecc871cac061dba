import numpy as np
import pytest
import torch

from nanochat.infer.sampling import RowSampling, SamplingParams, sample, uniforms

CPU = torch.device("cpu")


def draw(logits, params, count=4000):
    rows = RowSampling.of([params] * count, logits.shape[-1], CPU)
    numbers = torch.from_numpy(np.random.default_rng(0).random(count))
    tokens = sample(logits.expand(count, -1), rows, numbers).tokens
    return torch.bincount(tokens, minlength=logits.shape[-1]) / count


LOGITS = torch.tensor([[2.0, 0.5, 1.0, -1.0, 0.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [None, 5])
def test_frequencies_follow_the_distribution(temperature, top_k):
    expected = torch.softmax(LOGITS[0] / temperature, -1)
    assert torch.allclose(draw(LOGITS, SamplingParams(temperature=temperature, top_k=top_k)), expected, atol=0.03)


def test_filters_keep_what_they_say():
    assert (draw(LOGITS, SamplingParams(top_k=2)) > 0).tolist() == [True, False, True, False, False]
    assert (draw(LOGITS, SamplingParams(top_p=0.5)) > 0).tolist() == [True, False, False, False, False]
    assert (draw(LOGITS, SamplingParams(top_p=0.8)) > 0).tolist() == [True, True, True, False, False]
    assert (draw(LOGITS, SamplingParams(min_p=0.3)) > 0).tolist() == [True, False, True, False, False]
    assert (draw(LOGITS, SamplingParams(temperature=0)) > 0).tolist() == [True, False, False, False, False]


def test_rows_keep_their_own_parameters():
    rows = [
        SamplingParams(temperature=0, logprobs=True),
        SamplingParams(top_k=1),
        SamplingParams(top_k=3, top_p=0.01),
        SamplingParams(temperature=5.0),
    ]
    choice = sample(LOGITS.expand(4, -1), RowSampling.of(rows, 5, CPU), torch.tensor([0.99] * 4))
    tokens, logprobs = choice.tokens, choice.logprobs
    # Without filters the running sum is in the order of the vocabulary, so that 0.99 is its last token, here token 4.
    assert tokens.tolist() == [0, 0, 0, 4]
    assert logprobs.tolist() == pytest.approx(torch.log_softmax(LOGITS[0], -1)[[0, 0, 0, 4]].tolist())


def test_random_numbers_are_a_function_of_seed_and_position():
    assert np.array_equal(uniforms(7, 5), uniforms(7, 9)[:5])
    assert not np.array_equal(uniforms(7, 5), uniforms(8, 5))
