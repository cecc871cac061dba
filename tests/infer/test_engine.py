import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from tests.infer.fixtures import make_model

NEVER = frozenset[int]()


def greedy_without_cache(model, prompt, count):
    ids = list(prompt)
    for _ in range(count):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids]), last_only=True)[0, 0].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("arch", ["modern", "classic"])
def test_greedy_equals_recomputing_everything(tokenizer, arch):
    model = make_model(tokenizer.vocab_size, arch)
    prompts = [[3], [5, 9, 200, 41], list(range(40)), [7] * 60, [5, 9, 200, 41]]
    done = Engine(model, tokenizer, slots=3, tools=False).generate(
        prompts, SamplingParams(max_tokens=30, temperature=0, stop=NEVER)
    )
    for prompt, completion in zip(prompts, done):
        assert completion.ids == greedy_without_cache(model, prompt, 30)
        assert completion.finish == "length" and all(completion.sampled)


requested = st.tuples(
    st.lists(st.integers(0, 500), min_size=1, max_size=20),
    st.builds(
        SamplingParams,
        max_tokens=st.integers(1, 12),
        temperature=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
        top_k=st.sampled_from([None, 1, 5, 50]),
        top_p=st.sampled_from([None, 0.5, 0.9]),
        min_p=st.sampled_from([None, 0.05]),
        seed=st.integers(0, 5),
    ),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(requested, min_size=1, max_size=8), slots=st.integers(1, 9))
def test_a_row_does_not_depend_on_its_batch(model, tokenizer, requests, slots):
    prompts, params = [p for p, _ in requests], [s for _, s in requests]
    together = Engine(model, tokenizer, slots=slots).generate(prompts, params)
    for prompt, one, completion in zip(prompts, params, together):
        alone = Engine(model, tokenizer, slots=1).generate([prompt], one)[0]
        assert completion.ids == alone.ids and completion.finish == alone.finish
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_samples_of_one_prompt_differ_by_seed_only(model, tokenizer):
    prompt = [1, 2, 3]
    params = [SamplingParams(max_tokens=20, seed=seed) for seed in (0, 1, 0)]
    first, second, again = Engine(model, tokenizer).generate([prompt] * 3, params)
    assert first.ids == again.ids != second.ids


def test_logprobs_are_the_models_own(model, tokenizer):
    prompt = [4, 8, 15]
    done = Engine(model, tokenizer).generate([prompt], SamplingParams(max_tokens=12, temperature=0.5, top_k=20))[0]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + done.ids]))[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(done.ids)[:, None])[:, 0]
    assert done.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


class Scripted:
    """Makes a real model follow a script: the head is replaced by one that points to the next token wanted."""

    def __init__(self, tokenizer, script):
        self.model = make_model(tokenizer.vocab_size)
        self.prompt_length, self.script = 1, script

    def __getattr__(self, name):
        return getattr(self.model, name)

    def hidden(self, *args, **kwargs):
        return self.model.hidden(*args, **kwargs)

    def __call__(self, tokens, cache, last_only):
        places = cache.lengths.clone()
        logits = self.model(tokens, cache=cache, last_only=last_only)
        for row, place in enumerate(places.tolist()):
            at = place - self.prompt_length + 1
            if at < len(self.script):
                logits[row, -1, self.script[at]] = 1000.0
        return logits


def test_the_calculator_answers_and_its_output_is_marked(tokenizer):
    special = tokenizer.special
    call = [special["<|python_start|>"], *tokenizer.encode("12 + 7"), special["<|python_end|>"]]
    output = [special["<|output_start|>"], *tokenizer.encode("19"), special["<|output_end|>"]]
    after = [*tokenizer.encode(" is 19"), special["<|assistant_end|>"]]
    # Where the tool's output is forced the script says something else, which must not be heard.
    script = call + [0] * len(output) + after
    done = Engine(Scripted(tokenizer, script), tokenizer).generate(
        [[tokenizer.bos]] * 2, SamplingParams(max_tokens=60, temperature=0)
    )
    for completion in done:
        assert completion.ids == call + output + after
        assert completion.sampled == [True] * len(call) + [False] * len(output) + [True] * len(after)
        assert completion.finish == "stop"
        assert all(completion.logprobs[len(call) + place] == 0 for place in range(len(output)))
    plain = Engine(Scripted(tokenizer, script), tokenizer, tools=False).generate(
        [[tokenizer.bos]], SamplingParams(max_tokens=60, temperature=0)
    )
    assert plain[0].ids == script


@pytest.mark.parametrize("expression", ["import os", "1/0", ""])
def test_what_cannot_be_calculated_gives_no_output(tokenizer, expression):
    special = tokenizer.special
    script = [
        special["<|python_end|>"],
        special["<|python_start|>"],
        *tokenizer.encode(expression),
        special["<|python_end|>"],
        special["<|assistant_end|>"],
    ]
    done = Engine(Scripted(tokenizer, script), tokenizer).generate([[1]], SamplingParams(max_tokens=60, temperature=0))
    assert done[0].ids == script and all(done[0].sampled)


def test_stop_token_ends_a_row_and_is_kept(model, tokenizer):
    free = Engine(model, tokenizer).generate([[1, 2]], SamplingParams(max_tokens=20, seed=3, stop=NEVER))[0]
    stop = free.ids[7]
    done = Engine(model, tokenizer).generate([[1, 2]], SamplingParams(max_tokens=20, seed=3, stop=frozenset([stop])))[0]
    assert done.ids == free.ids[: free.ids.index(stop) + 1] and done.finish == "stop"


def test_the_context_ends_a_row(model, tokenizer):
    context = model.config.sequence_length
    long, full, over = Engine(model, tokenizer).generate(
        [[1] * (context - 5), [1] * context, [1] * (context + 9)], SamplingParams(max_tokens=50, stop=NEVER)
    )
    assert len(long.ids) == 5 and long.finish == "length"
    assert full.ids == over.ids == [] and full.finish == over.finish == "length"


def test_streaming_gives_the_same_tokens(model, tokenizer):
    engine, params = Engine(model, tokenizer), SamplingParams(max_tokens=15, seed=2)
    done = engine.generate([[9, 8]], params)[0]
    assert list(engine.stream([9, 8], params)) == list(zip(done.ids, done.sampled))


def test_bad_requests_are_named(model, tokenizer):
    engine = Engine(model, tokenizer)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        engine.generate([[1], []], SamplingParams())
    with pytest.raises(ValueError, match="2 prompts but 1"):
        engine.generate([[1], [2]], [SamplingParams()])
    with pytest.raises(ValueError, match="top_p = 0"):
        SamplingParams(top_p=0)
    assert engine.generate([], SamplingParams()) == []
