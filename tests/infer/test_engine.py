import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanochat.infer.engine import Engine
from nanochat.infer.products import onednn_is_exact
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


def prompts():
    """Prompts of which some begin alike, for longer than what is read at a time."""
    common = [(n * n) % 500 for n in range(70)]
    own = st.lists(st.integers(0, 500), min_size=1, max_size=12)
    return st.one_of(own, own.map(lambda more: common + more), own.map(lambda more: common[:30] + more[:1]))


requested = st.tuples(
    prompts(),
    st.builds(
        SamplingParams,
        max_tokens=st.integers(1, 12),
        temperature=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
        top_k=st.sampled_from([None, 1, 5, 50]),
        top_p=st.sampled_from([None, 0.5, 0.9]),
        min_p=st.sampled_from([None, 0.05]),
        seed=st.integers(0, 5),
        logprobs=st.booleans(),
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
        if onednn_is_exact():
            assert completion.logprobs == alone.logprobs
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_samples_of_one_prompt_differ_by_seed_only(model, tokenizer):
    prompt = [1, 2, 3]
    params = [SamplingParams(max_tokens=20, seed=seed) for seed in (0, 1, 0)]
    first, second, again = Engine(model, tokenizer).generate([prompt] * 3, params)
    assert first.ids == again.ids != second.ids


def test_logprobs_are_the_models_own(model, tokenizer):
    prompt = [4, 8, 15]
    done = Engine(model, tokenizer).generate(
        [prompt], SamplingParams(max_tokens=12, temperature=0.5, top_k=20, logprobs=True)
    )[0]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + done.ids]))[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(done.ids)[:, None])[:, 0]
    assert done.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


class Scripted(Engine):
    """A real engine whose logits are bent towards a script: the token that is wanted next at each place."""

    def __init__(self, tokenizer, script, **options):
        super().__init__(make_model(tokenizer.vocab_size), tokenizer, **options)
        self.decoder.step = self.follow(self.decoder.step, script)

    @staticmethod
    def follow(step, script):
        def bent(tokens, cache):
            places = cache.lengths[: len(tokens)].copy()
            logits = step(tokens, cache)
            for row, place in enumerate(places.tolist()):
                if place < len(script):
                    logits[row, script[place]] = 1000.0
            return logits

        return bent


def test_the_calculator_answers_and_its_output_is_marked(tokenizer):
    special = tokenizer.special
    call = [special["<|python_start|>"], *tokenizer.encode("12 + 7"), special["<|python_end|>"]]
    output = [special["<|output_start|>"], *tokenizer.encode("19"), special["<|output_end|>"]]
    after = [*tokenizer.encode(" is 19"), special["<|assistant_end|>"]]
    # Where the tool's output is forced the script says something else, which must not be heard.
    script = call + [0] * len(output) + after
    done = Scripted(tokenizer, script).generate(
        [[tokenizer.bos]] * 2, SamplingParams(max_tokens=60, temperature=0, logprobs=True)
    )
    for completion in done:
        assert completion.ids == call + output + after
        assert completion.sampled == [True] * len(call) + [False] * len(output) + [True] * len(after)
        assert completion.finish == "stop"
        assert all(completion.logprobs[len(call) + place] == 0 for place in range(len(output)))
    plain = Scripted(tokenizer, script, tools=False).generate(
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
    done = Scripted(tokenizer, script).generate([[1]], SamplingParams(max_tokens=60, temperature=0))
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


def test_requests_that_come_later_and_are_cancelled(model, tokenizer):
    engine = Engine(model, tokenizer, slots=2)
    params = SamplingParams(max_tokens=10, seed=4, stop=NEVER)
    alone = engine.generate([[5, 6]], params)[0]
    generation = engine.start()
    first = generation.submit([1, 2, 3], params)
    assert [token.request for token in generation.step()] == [first]
    later = generation.submit([5, 6], params)
    waiting = [generation.submit([7], params), generation.submit([8], params)]
    for _ in range(3):
        generation.step()
    generation.cancel(first)
    generation.cancel(waiting[1])
    generation.cancel(99)
    found = dict(generation.take_finished())
    assert found[first].finish == found[waiting[1]].finish == "cancelled"
    assert len(found[first].ids) == 4 and found[waiting[1]].ids == []
    while generation.active:
        generation.step()
    found = dict(generation.take_finished())
    assert found[later] == alone and set(found) == {later, waiting[0]}
    assert generation.take_finished() == []


def test_completions_come_as_they_are_finished(model, tokenizer):
    engine = Engine(model, tokenizer, slots=2)
    params = [SamplingParams(max_tokens=n, temperature=0, stop=NEVER) for n in (9, 2, 4)]
    found = list(engine.completions([[1], [2], [3]], params))
    assert [len(completion.ids) for _, completion in found] == [2, 4, 9]
    assert dict(found) == dict(enumerate(engine.generate([[1], [2], [3]], params)))
