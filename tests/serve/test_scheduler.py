"""Many readers at once: no cross-talk, limits, cancelling, ends of all kinds."""

import asyncio
import contextlib
import threading

import pytest
import torch

from nanochat.config import ChatSettings
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.errors import BusyError, EndingError
from nanochat.serve.events import Done, TextDelta, ToolCall
from nanochat.serve.registry import Registry
from nanochat.serve.scheduler import Scheduler
from nanochat.serve.streams import stream

from .conftest import ACCENTS, CONTEXT, ENDLESS, FRENCH, MARKUP, SCRIPT, SUM

GREEDY = SamplingParams(temperature=0, max_tokens=CONTEXT)
WAIT = 30.0


class Notes:
    """An observer that writes everything down."""

    def __init__(self):
        self.seen = []

    def __getattr__(self, name):
        return lambda *facts: self.seen.append((name, *facts))

    def count(self, name):
        return sum(entry[0] == name for entry in self.seen)


@pytest.fixture(scope="module")
def registry(chat_run):
    return Registry(chat_run, settings=ChatSettings(slots=4))


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def scheduler(notes):
    scheduler = Scheduler(ChatSettings(queue=8), notes)
    yield scheduler
    scheduler.close()


def prompt(model, text):
    return model.prompt([{"role": "user", "content": text}])


async def read(scheduler, model, texts, params=GREEDY, **more):
    """Events of each choice."""
    found = [[] for _ in texts]
    prompts = [prompt(model, text) for text in texts]
    async for pieces in stream(scheduler, model, prompts, [params] * len(texts), **more):
        for piece in pieces:
            found[piece.choice] += piece.events
    return found


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def run(task):
    return asyncio.run(asyncio.wait_for(task, WAIT))


def test_choices_of_one_job_and_their_ends(scheduler, registry):
    first, second, third = run(read(scheduler, registry.get("sft"), [SUM, MARKUP, ACCENTS]))
    assert [event for event in first if isinstance(event, ToolCall)] == [ToolCall("12+30", "42")]
    assert (text_of(first), text_of(second), text_of(third)) == ("It is 42.", SCRIPT, FRENCH)
    for events in (first, second, third):
        assert [type(event) for event in events].count(Done) == 1
        done = events[-1]
        assert done.finish == "stop"
        assert 0 < done.first_token_seconds <= done.seconds
        assert 0 < done.tokens <= done.produced < done.context_used < done.context_size == CONTEXT
    # The calculator's answer was forced, not sampled.
    assert first[-1].produced > first[-1].tokens
    assert second[-1].produced == second[-1].tokens


def test_answers_of_many_readers_are_those_they_get_alone(scheduler, registry):
    """More requests than slots, two models, several sampling parameters."""

    def wanted(number):
        name = ("sft", "base")[number % 2]
        text = (SUM, MARKUP, ACCENTS)[number % 3]
        return name, text, SamplingParams(temperature=1.5, top_k=(None, 20)[number % 2], seed=number, max_tokens=40)

    async def one(number):
        name, text, params = wanted(number)
        return (await read(scheduler, registry.get(name), [text], params))[0]

    async def all_of_them():
        return await asyncio.gather(*map(one, range(12)))

    together = run(all_of_them())
    for number, events in enumerate(together):
        alone = run(one(number))
        # How a text was cut into pieces is a matter of timing.
        assert join(events) == join(alone)


def join(events):
    found = []
    for event in events:
        if isinstance(event, TextDelta):
            if found and isinstance(found[-1], str):
                found[-1] += event.text
            else:
                found.append(event.text)
        elif isinstance(event, ToolCall):
            found.append(event)
    return found


def test_too_many_are_turned_away_and_the_others_answered(scheduler, registry, notes):
    model = registry.get("sft")
    few = SamplingParams(temperature=0, max_tokens=30)

    async def crowd():
        return await asyncio.gather(
            *(read(scheduler, model, [ENDLESS], few) for _ in range(20)), return_exceptions=True
        )

    results = run(crowd())
    refused = [result for result in results if isinstance(result, BusyError)]
    assert len(refused) == 20 - 4 - 8  # slots and queue
    assert "chat.queue = 8" in str(refused[0])
    assert notes.count("rejected") == 8
    answers = [result[0] for result in results if not isinstance(result, BusyError)]
    assert len({text_of(events) for events in answers}) == 1
    assert {events[-1].finish for events in answers} == {"length"}
    assert model.users == scheduler.running + scheduler.waiting == 0


def test_a_reader_who_leaves_frees_the_slot(scheduler, registry, notes):
    model = registry.get("sft")

    async def leave():
        pieces = stream(scheduler, model, [prompt(model, ENDLESS)] * 3, [GREEDY] * 3)
        async with contextlib.aclosing(pieces):
            async for _ in pieces:
                break

    run(leave())
    run(read(scheduler, model, [SUM]))  # behind the cancelled ones
    assert model.users == 0
    assert [entry[2] for entry in notes.seen if entry[0] == "finished"].count("cancelled") == 3


def test_a_task_that_is_cancelled_while_it_waits_frees_the_slot(scheduler, registry):
    model = registry.get("sft")

    async def give_up():
        task = asyncio.create_task(read(scheduler, model, [ENDLESS] * 8))
        while scheduler.running < 4:
            await asyncio.sleep(0.001)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return (await read(scheduler, model, [SUM]))[0]

    assert text_of(run(give_up())) == "It is 42."
    assert model.users == 0


def test_an_answer_that_takes_too_long_is_cut_off(registry):
    scheduler = Scheduler(ChatSettings(request_seconds=0.15))
    try:
        events = run(read(scheduler, registry.get("sft"), [ENDLESS]))[0]
    finally:
        scheduler.close()
    assert events[-1].finish == "timeout"
    assert ENDLESS  # and what came before that stays
    assert text_of(events).startswith("la li lo")


def test_an_error_reaches_its_readers_and_the_next_request_is_answered(scheduler, registry, notes):
    model = registry.get("sft")
    bad = [*prompt(model, SUM)[:-1], 10**6]  # no such token

    async def ask():
        with pytest.raises(Exception, match=r"index|range|bounds"):
            async for _ in stream(scheduler, model, [bad], [GREEDY]):
                pass
        return (await read(scheduler, model, [SUM]))[0]

    assert text_of(run(ask())) == "It is 42."
    assert [entry[2] for entry in notes.seen if entry[0] == "finished"] == ["error", "stop"]


def test_what_cannot_begin_is_told_and_not_counted(scheduler, registry, notes):
    model = registry.get("sft")

    async def ask():
        with pytest.raises(ValueError, match="empty"):
            async for _ in stream(scheduler, model, [[], prompt(model, ENDLESS)], [GREEDY] * 2):
                pass
        return (await read(scheduler, model, [SUM]))[0]

    assert text_of(run(ask())) == "It is 42."
    assert model.users == scheduler.running + scheduler.waiting == 0
    assert [entry[2] for entry in notes.seen if entry[0] == "finished"] == ["error", "cancelled", "stop"]


@pytest.mark.parametrize("seconds", [0.1, 600.0])
def test_a_reader_whose_event_loop_has_ended_harms_nobody(registry, seconds):
    scheduler = Scheduler(ChatSettings(request_seconds=seconds))
    model = registry.get("sft")
    asked = threading.Event()

    def deliver(news):
        if seconds == 600.0 or any(delivery.finish for delivery in news):
            asked.set()
            raise RuntimeError("Event loop is closed")

    scheduler.submit(model, [prompt(model, ENDLESS)] * 3, [GREEDY] * 3, deliver)
    assert asked.wait(WAIT)
    try:
        asyncio.run(asyncio.wait_for(read(scheduler, model, [SUM], SamplingParams(max_tokens=1)), WAIT))
        assert model.users == 0
    finally:
        scheduler.close()


def test_who_asks_at_the_very_end_is_told(registry):
    scheduler = Scheduler(ChatSettings())
    model = registry.get("sft")
    begun, hold = threading.Event(), threading.Event()
    ends = []
    scheduler.call(lambda: begun.set() or hold.wait(WAIT))
    assert begun.wait(WAIT)
    scheduler.submit(model, [prompt(model, SUM)], [GREEDY], lambda news: ends.extend(one.finish for one in news))
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not scheduler._closed:
        pass
    hold.set()
    closing.join(WAIT)
    assert ends == ["cancelled"]
    assert model.users == 0


def test_calls_without_end_keep_no_answer_from_being_made(scheduler, registry):
    def again():
        with contextlib.suppress(EndingError):
            scheduler.call(again)

    again()
    assert text_of(run(read(scheduler, registry.get("sft"), [SUM]))[0]) == "It is 42."


def test_closing_ends_what_is_in_work(registry):
    scheduler = Scheduler(ChatSettings())
    model = registry.get("sft")
    ends = []
    done = threading.Event()

    def deliver(news):
        for delivery in news:
            if delivery.finish:
                ends.append(delivery.finish)
                done.set()

    scheduler.submit(model, [prompt(model, ENDLESS)], [GREEDY], deliver)
    scheduler.close()
    assert done.wait(WAIT)
    assert ends == ["cancelled"]
    with pytest.raises(EndingError):
        scheduler.submit(model, [prompt(model, SUM)], [GREEDY], deliver)


def test_calls_run_between_steps_and_hand_on_what_they_raise(scheduler):
    assert scheduler.call(lambda: threading.current_thread().name).result(WAIT) == "scheduler"
    with pytest.raises(ZeroDivisionError):
        scheduler.call(lambda: 1 // 0).result(WAIT)


def test_nobody_waits_for_a_call_to_a_closed_scheduler(registry):
    scheduler = Scheduler(ChatSettings())
    begun, hold = threading.Event(), threading.Event()
    first = scheduler.call(lambda: begun.set() or hold.wait(WAIT))
    second = scheduler.call(lambda: "never")
    assert begun.wait(WAIT)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not scheduler._closed:
        pass
    hold.set()
    closing.join(WAIT)
    assert first.result(WAIT)
    with pytest.raises(EndingError):
        second.result(WAIT)
    with pytest.raises(EndingError):
        scheduler.call(lambda: "never")


def test_stop_strings_end_a_choice_and_only_that(scheduler, registry, notes):
    model = registry.get("sft")
    song, sum_ = run(read(scheduler, model, [ENDLESS, SUM], stop=("li lo la", "zzz")))
    assert text_of(song) == "la "
    assert song[-1].finish == "stop"
    assert text_of(sum_) == "It is 42."
    assert [entry[2] for entry in notes.seen if entry[0] == "finished"] == ["stop", "stop"]


def test_most_likely_tokens_come_with_log_probabilities(scheduler, registry):
    model = registry.get("sft")
    params = SamplingParams(temperature=0, max_tokens=12, logprobs=True, top_logprobs=3)

    async def ask():
        tokens = []
        async for pieces in stream(scheduler, model, [prompt(model, MARKUP)], [params]):
            tokens += [token for piece in pieces for token in piece.tokens]
        return tokens

    tokens = run(ask())
    assert len(tokens) == 12
    ids = prompt(model, MARKUP)
    for token in tokens:
        with torch.inference_mode():
            expected = torch.log_softmax(model.loaded.model(torch.tensor([ids]))[0, -1].float(), -1)
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-3)
        assert [number for number, _ in token.top] == expected.topk(3).indices.tolist()
        assert token.top[0] == (token.id, pytest.approx(token.logprob))
        ids.append(token.id)
