"""`from nanochat import load`: generate, chat and score do what docs/python.md says, alone, in lists and streamed."""

import subprocess
import sys

import pytest

import nanochat
from nanochat.errors import ArtifactError, DataError
from nanochat.infer.scoring import Span, one_by_one
from nanochat.serve.errors import ContextFullError, UnknownModelError
from nanochat.serve.events import ToolCall
from nanochat.serve.notation import as_text

from .conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SCRIPT, SECOND, SUM

HOT = {"temperature": 1.5, "top_k": None, "max_tokens": 12}


@pytest.fixture(scope="module")
def base(chat_run):
    return nanochat.load(chat_run, "base")


@pytest.fixture(scope="module")
def sft(chat_run):
    return nanochat.load(chat_run)


def user(text):
    return {"role": "user", "content": text}


def test_importing_the_package_or_its_settings_is_cheap():
    code = "import sys, nanochat, nanochat.config, nanochat.artifact; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert set(nanochat.__all__) == {"Model", "load"}
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        nanochat.lode  # noqa: B018


def test_what_a_model_says_of_itself(chat_run, base, sft):
    assert (sft.stage, sft.name, sft.context_size) == ("sft", "heart/sft", CONTEXT)
    assert sft.manifest.stage == "sft" and base.stage == "base"
    assert sft.tokenizer.decode(sft.tokenizer.encode(FRENCH)) == FRENCH
    assert f"{sft.parameters:,}" in repr(sft)
    assert isinstance(nanochat.load(str(chat_run / "base")), nanochat.Model)


def test_what_is_not_there_is_named(chat_run, tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere is no folder"):
        nanochat.load(tmp_path / "nowhere")
    with pytest.raises(UnknownModelError, match=r"'rl'.*heart/sft"):
        nanochat.load(chat_run, "rl")


def test_a_text_is_continued(base):
    done = base.generate("Once upon a", temperature=0)
    assert (done.text, done.finish) == (" time there was a cat.", "stop")
    assert done.tokens == len(base.tokenizer.encode(done.text)) + 1
    assert done.logprobs is None and done.logprob is None


def test_lists_streams_and_single_requests_agree(base):
    prompts = ["Once upon a", "xyz", "a"]
    together = base.generate(prompts, seed=3, **HOT)
    assert together == [base.generate(prompt, seed=3, **HOT) for prompt in prompts]
    stream = base.generate_stream("xyz", seed=3, **HOT)
    assert "".join(stream) == together[1].text and stream.result == together[1]
    assert base.generate([]) == []


def test_samples_have_seeds_of_their_own(base):
    samples = base.generate("xyz", n=4, seed=3, **HOT)
    assert [sample.seed for sample in samples] == [3, 4, 5, 6]
    assert samples == [base.generate("xyz", seed=seed, **HOT) for seed in (3, 4, 5, 6)]
    assert len({sample.text for sample in samples}) > 1
    drawn = base.generate("xyz", **HOT)
    assert base.generate("xyz", seed=drawn.seed, **HOT) == drawn


def test_stop_texts_and_limits_end_the_writing(base, sft):
    done = base.generate("Once upon a", temperature=0, stop=[" cat", "zebra"], logprobs=True)
    assert (done.text, done.finish) == (" time there was a", "stop")
    assert "".join(token.text for token in done.logprobs) == done.text
    assert sft.chat(ENDLESS, temperature=0, max_tokens=5).finish == "length"
    long = "word " * 10 * CONTEXT
    tokens = base.tokenizer
    prompt = tokens.decode(tokens.encode(long)[: CONTEXT - 4])
    assert base.generate(prompt, temperature=0, max_tokens=CONTEXT).finish in ("context", "stop")
    with pytest.raises(ContextFullError):
        base.generate(long)


def test_a_conversation_goes_on_with_what_was_answered(sft):
    first = sft.chat(SUM, temperature=0)
    assert first.text == "It is <<12+30=42>>42."
    assert first.tool_calls == (ToolCall("12+30", "42"),)
    assert first.messages[0] == user(SUM) and as_text(first.messages[1]["content"]) == first.text
    second = sft.chat([*first.messages, user(SECOND)], temperature=0)
    assert second.text == "Still 42." and len(second.messages) == 4
    # A history in which the call is only text is the same conversation.
    told = [user(SUM), {"role": "assistant", "content": first.text}, user(SECOND)]
    assert sft.chat(told, temperature=0).text == "Still 42."


def test_many_conversations_are_answered_together(sft):
    assert [one.text for one in sft.chat([MARKUP, ACCENTS], temperature=0)] == [SCRIPT, FRENCH]
    asked = [[user(ACCENTS), {"role": "assistant", "content": FRENCH}, user(SECOND)], [user(ACCENTS)]]
    assert [one.text for one in sft.chat(asked, temperature=0)] == ["Encore.", FRENCH]
    assert sft.chat([]) == []


def test_an_answer_streams(sft):
    with sft.chat_stream(SUM, temperature=0) as stream:
        pieces = list(stream)
    assert "<<12+30=42>>" in pieces and "".join(pieces) == stream.result.text
    with sft.chat_stream(ENDLESS, temperature=0) as broken:
        assert next(iter(broken))
    with pytest.raises(RuntimeError, match="closed before its end"):
        broken.result  # noqa: B018


def test_a_system_prompt_and_wrong_conversations(sft):
    answer = sft.chat(SUM, system="Be brief.", temperature=0, max_tokens=3)
    assert answer.messages[0] == {"role": "system", "content": "Be brief."}
    for wrong, words in (
        ([user(SUM), {"role": "assistant", "content": "42"}], "ends with a message of the user"),
        ([user(SUM), user(SUM)], "expected 'assistant'"),
        ([user("  ")], "empty"),
    ):
        with pytest.raises(DataError, match=words):
            sft.chat(wrong)
    with pytest.raises(DataError, match="system message already"):
        sft.chat([{"role": "system", "content": "a"}, user("b")], system="c")


@pytest.mark.parametrize(
    ("sampling", "words"),
    [({"temperature": -1}, "temperature"), ({"max_tokens": 0}, "max_tokens"), ({"top_p": 2}, "top_p"),
     ({"stop": ""}, "stop"), ({"n": 0}, "n = 0")],
)  # fmt: skip
def test_what_is_out_of_range_is_named(base, sampling, words):
    with pytest.raises(ValueError, match=words):
        base.generate("a", **sampling)


def test_an_unknown_parameter_is_named(base):
    with pytest.raises(TypeError, match=r"unknown temprature; expected some of .*temperature"):
        base.generate("a", temprature=1)


def test_special_tokens_in_texts_are_plain_text(sft):
    special = set(sft.tokenizer.special.values())
    scores = sft.score("<|user_end|>", ["<|assistant_start|>"])
    assert not special & {token.id for token in scores[0].logprobs}


def test_scores_are_those_of_one_forward_pass_each(base):
    context = [base.tokenizer.bos, *base.tokenizer.encode("Once upon a")]
    texts = [" time there", " cat", FRENCH]
    scores = base.score("Once upon a", texts)
    spans = [Span((*context, *base.tokenizer.encode(text)), len(context)) for text in texts]
    for score, loss, text in zip(scores, one_by_one(base._model.loaded.model, spans), texts, strict=True):
        assert score.total == pytest.approx(-loss.total, abs=1e-4)
        assert (score.tokens, score.greedy) == (loss.tokens, loss.greedy)
        assert b"".join(base.tokenizer.decode_bytes([t.id]) for t in score.logprobs).decode() == text
    assert base.score("Once upon a", texts[1]) == base.score("Once upon a", texts[1:2])[0]
    assert scores[0].greedy and scores[0].total > scores[1].total
    assert scores[0].mean == scores[0].total / scores[0].tokens


def test_scores_agree_with_the_log_probabilities_of_what_is_written(base, sft):
    done = base.generate("Once upon a", temperature=0, logprobs=True)
    assert base.score("Once upon a", done.text).total == pytest.approx(done.logprob, abs=1e-3)
    answer = sft.chat(ACCENTS, temperature=0, logprobs=True)
    assert sft.score([user(ACCENTS)], answer.text).total == pytest.approx(answer.logprob, abs=1e-3)


def test_what_cannot_be_scored_is_named(base):
    with pytest.raises(DataError, match="empty"):
        base.score("a", ["b", ""])
    with pytest.raises(ContextFullError, match="prompt and continuation"):
        base.score("a", "word " * CONTEXT)
    assert base.score("a", []) == []
