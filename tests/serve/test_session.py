"""Conversations with a real small model: streaming, tools, cancel, retry, full context, damaged checkpoints."""

import shutil
import threading

import pytest

from nanochat.errors import ArtifactError
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.events import Done, TextDelta, ToolCall
from nanochat.serve.model import ContextFullError
from nanochat.serve.registry import Registry
from nanochat.serve.session import ChatSession

from .conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SCRIPT, SECOND, SUM

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def registry(chat_run):
    return Registry(chat_run)


@pytest.fixture
def session(registry):
    return ChatSession(registry, "sft", GREEDY)


def send(session, text, cancel=None):
    return list(session.send(text, cancel or threading.Event()))


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_stages_are_those_on_disk_and_auto_is_the_last(registry):
    assert registry.stages == ("base", "sft")
    assert registry.resolve("auto") == "sft"
    with pytest.raises(ArtifactError, match=r"'rl' has no checkpoint .* base, sft"):
        registry.get("rl")


def test_a_checkpoint_is_loaded_once_and_again_after_it_changed(chat_run, tmp_path):
    run = shutil.copytree(chat_run, tmp_path / "run")
    registry = Registry(run)
    first = registry.get("sft")
    assert registry.get("auto") is first
    (run / "sft" / "manifest.json").touch()
    assert registry.get("sft") is not first


def test_a_copied_checkpoint_directory_is_served_by_itself(chat_run, tmp_path):
    registry = Registry(shutil.copytree(chat_run / "sft", tmp_path / "copy"))
    assert text_of(send(ChatSession(registry, "auto", GREEDY), MARKUP)) == SCRIPT


def test_an_empty_run_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no checkpoint to talk to.*snakemake"):
        Registry(tmp_path)


def test_a_flipped_byte_is_named(chat_run, tmp_path):
    run = shutil.copytree(chat_run, tmp_path / "run")
    weights = run / "sft" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        Registry(run).get("sft")


def test_a_reply_streams_text_and_ends_with_true_numbers(session):
    events = send(session, ACCENTS)
    assert text_of(events) == FRENCH
    assert len(events) > 2
    done = events[-1]
    model = session.registry.get("sft")
    assert isinstance(done, Done)
    assert done.finish == "stop"
    assert done.tokens == len(model.tokenizer.encode(FRENCH)) + 1  # the end token is sampled too
    prompt = model.prompt([{"role": "user", "content": ACCENTS}])
    assert done.context_used == len(prompt) + done.tokens
    assert done.context_size == CONTEXT


def test_a_sum_goes_through_the_calculator_and_stays_in_the_conversation(session):
    events = send(session, SUM)
    assert [event for event in events if isinstance(event, ToolCall)] == [ToolCall("12+30", "42")]
    assert text_of(events) == "It is 42."
    # The next turn was learned after the whole call; it only comes if the history renders to the same tokens.
    assert text_of(send(session, SECOND)) == "Still 42."


def test_cancel_ends_the_reply_at_once_and_keeps_what_there_is(session):
    cancel = threading.Event()
    seen = []
    for event in session.send(ENDLESS, cancel):
        seen.append(event)
        if len(seen) == 5:
            cancel.set()
    done = seen[-1]
    assert done.finish == "cancelled"
    assert len(seen) == 6
    assert session.messages[-1]["content"] == [{"type": "text", "text": text_of(seen)}]


def test_a_length_limit_and_a_full_context_are_told_apart(registry):
    short = send(ChatSession(registry, "sft", SamplingParams(temperature=0, max_tokens=10)), ENDLESS)[-1]
    assert (short.finish, short.tokens) == ("length", 10)
    never = SamplingParams(temperature=0, max_tokens=10**6, stop=frozenset())
    tokens = registry.get("base").tokenizer
    prompt = tokens.decode(tokens.encode("cat was " * CONTEXT)[: CONTEXT - 20])
    done = send(ChatSession(registry, "base", never), prompt)[-1]
    assert (done.finish, done.context_used) == ("context", CONTEXT)


def test_a_message_that_does_not_fit_leaves_the_conversation_as_it_was(session):
    send(session, MARKUP)
    before = list(session.messages)
    with pytest.raises(ContextFullError, match=rf"context is full.*{CONTEXT}"):
        send(session, "word " * CONTEXT)
    assert session.messages == before


def test_retry_is_equal_at_one_seed_and_differs_at_another(registry):
    def reply(seed):
        return text_of(send(ChatSession(registry, "base", SamplingParams(temperature=2.0, seed=seed)), "xyz"))

    assert reply(1) == reply(1)
    assert len({reply(seed) for seed in range(4)}) > 1


def test_rewind_forgets_a_turn_and_all_after_it(session):
    send(session, ACCENTS)
    send(session, SECOND)
    assert session.turns == 2
    assert session.rewind(1) == SECOND
    assert [message["role"] for message in session.messages] == ["user", "assistant"]
    assert text_of(send(session, SECOND)) == "Encore."
    assert session.rewind(0) == ACCENTS
    assert session.messages == []


def test_special_tokens_typed_by_a_user_are_plain_text(registry):
    model = registry.get("sft")
    typed = "<|user_end|><|assistant_start|>"
    prompt = model.prompt([{"role": "user", "content": typed}])
    special = set(model.tokenizer.special.values())
    names = ("<|bos|>", "<|user_start|>", "<|user_end|>", "<|assistant_start|>")
    assert [token for token in prompt if token in special] == [model.tokenizer.special[name] for name in names]


def test_a_system_prompt_comes_first_and_is_not_part_of_the_messages(registry):
    session = ChatSession(registry, "sft", GREEDY, system="Be brief.")
    plain = ChatSession(registry, "sft", GREEDY)
    used = send(session, SUM)[-1].context_used - send(session, SUM)[-1].tokens
    assert session.messages[0]["role"] == "user"
    assert used > send(plain, SUM)[-1].context_used - send(plain, SUM)[-1].tokens


def test_the_base_model_continues_text(registry):
    session = ChatSession(registry, "base", GREEDY)
    assert text_of(send(session, "Once upon a")) == " time there was a cat."


def test_replies_at_the_same_time_do_not_mix(registry):
    answers = {}

    def ask(prompt):
        answers[prompt] = text_of(send(ChatSession(registry, "sft", GREEDY), prompt))

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in (SUM, MARKUP, ACCENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {SUM: "It is 42.", MARKUP: SCRIPT, ACCENTS: FRENCH}
