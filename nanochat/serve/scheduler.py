"""One thread that generates for all requests of all models: requests come and go while others are in work.

Everything that computes with a model of a server happens here, so that the processor's cores are never asked for twice,
and in the way whose results do not depend on what else is in the batch.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nanochat.config import ChatSettings
from nanochat.infer.requests import Token
from nanochat.infer.sampling import SamplingParams
from nanochat.serve.errors import BusyError, EndingError
from nanochat.serve.events import Finish
from nanochat.serve.model import ChatModel
from nanochat.serve.observer import Observer

log = logging.getLogger(__name__)

T = TypeVar("T")

_PER_JOB, _LONGEST = 0.0008, 0.05
"""Seconds between deliveries for each job in work, and at most: with many readers, handing over token by token would
take more time than making the tokens."""


@dataclass(frozen=True)
class Delivery:
    """What has come of one choice since the last delivery.

    Attributes:
        choice: its number in the job.
        tokens: in order.
        finish: set on the last one, unless it ended in an error.
        error: what went wrong.
    """

    choice: int
    tokens: Sequence[Token]
    finish: Finish | None = None
    error: Exception | None = None


Deliver = Callable[[list[Delivery]], None]


@dataclass
class _Choice:
    """One request of a job, in the scheduler's hands."""

    job: "Job"
    number: int
    tokens: list[Token] = field(default_factory=list)
    produced: int = 0


class Job:
    """Choices that are generated for one reader."""

    def __init__(self, scheduler: "Scheduler", model: ChatModel, deliver: Deliver, seconds: float) -> None:
        self.model, self.deliver = model, deliver
        self.submitted = time.perf_counter()
        self.deadline = self.submitted + seconds
        self.news: list[Delivery] = []
        self.delivered = 0.0
        self.gone = False
        self._scheduler = scheduler

    def cancel(self, choice: int | None = None, finish: Finish = "cancelled") -> None:
        """End a choice, or all; ended ones are left alone. Returns at once, from any thread.

        Args:
            choice: its number; None for all.
            finish: why.
        """
        self._scheduler.command(lambda: self._scheduler.end(self, choice, finish))


@dataclass
class _Work:
    """Requests of one model, by their index in its generation."""

    model: ChatModel
    choices: dict[int, _Choice] = field(default_factory=dict)


class Scheduler:
    """Generates for many readers at once.

    Args:
        settings: how many may wait, and how long an answer may take.
        observer: is told what happens.
    """

    def __init__(self, settings: ChatSettings, observer: Observer | None = None) -> None:
        self._settings = settings
        self._observer = observer
        self._commands: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._calls: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._work: dict[ChatModel, _Work] = {}
        self._closed = False
        self._open = self._running = 0
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Replies being generated."""
        return min(self._running, self._open)

    @property
    def waiting(self) -> int:
        """Replies that wait for a free slot."""
        return self._open - self.running

    def submit(
        self, model: ChatModel, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams], deliver: Deliver
    ) -> Job:
        """Queue one choice for each prompt.

        Args:
            model: who answers.
            prompts: token ids, shorter than the context.
            params: for each.
            deliver: called from the scheduler's thread with what has come; of each choice the last delivery has a
                `finish` or an `error`.

        Raises:
            BusyError: if more would wait than the settings allow.
            EndingError: if the scheduler is closed.
        """
        with self._lock:
            self._check_open()
            if model.users + len(prompts) > model.slots + self._settings.queue:
                if self._observer:
                    self._observer.rejected(model.name)
                raise BusyError(
                    f"{model.name} is answering {min(model.users, model.slots)} requests and "
                    f"{max(0, model.users - model.slots)} wait (chat.queue = {self._settings.queue}); try again later"
                )
            model.users += len(prompts)
            self._open += len(prompts)
            job = Job(self, model, deliver, self._settings.request_seconds)
            self.command(lambda: self._begin(job, prompts, params))
        return job

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run something with a model between two steps; between any two, one call, so that all go on.

        Raises:
            EndingError: if the scheduler is closed; what has not begun by then raises it, too.
        """
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                self._check_open()
                future.set_result(function())
            except BaseException as error:  # whoever waits for it is told, whatever it is
                future.set_exception(error)

        with self._lock:
            self._check_open()
            self._calls.append(run)
            self.command(lambda: None)  # wakes the thread
        return future

    def _check_open(self) -> None:
        if self._closed:
            raise EndingError("the server is ending")

    def command(self, function: Callable[[], Any]) -> None:
        """Have something done by the thread before its next step."""
        self._commands.put(function)

    def close(self) -> None:
        """End all replies and the thread."""
        with self._lock:
            self._closed = True
        self.command(lambda: None)
        self._thread.join()

    def end(self, job: Job, number: int | None, finish: Finish) -> None:
        """End a choice of a job, or all of them; only in the scheduler's thread."""
        work = self._work.get(job.model)
        if work is None:
            return
        for index, choice in list(work.choices.items()):
            # Of a job whose reader turns out to be gone, the first end brings that of all others.
            if choice.job is job and number in (None, choice.number) and index in work.choices:
                job.model.generation.cancel(index)
                self._ended(work, index, finish)

    def _run(self) -> None:
        while not self._closed:
            self._obey(wait=not self._work and not self._calls)
            if self._calls:
                self._calls.popleft()()
            for work in list(self._work.values()):
                self._step(work)
            self._running = sum(work.model.generation.running for work in self._work.values())
            self._expire()
            self._hand_over()
        self._obey(wait=False)  # what was asked for before the end must not wait for ever
        for work in list(self._work.values()):
            for choice in list(work.choices.values()):
                self.end(choice.job, None, "cancelled")
        while self._calls:
            self._calls.popleft()()

    def _obey(self, *, wait: bool) -> None:
        """Do what was asked for; wait for it, if need be."""
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return
            wait = False
            try:
                command()
            except Exception:
                log.exception("the scheduler could not do what it was asked for")

    def _begin(self, job: Job, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams]) -> None:
        for number, (prompt, one) in enumerate(zip(prompts, params, strict=True)):
            choice = _Choice(job, number)
            if self._observer:
                self._observer.submitted(job.model.name, len(prompt))
            try:
                index = job.model.generation.submit(prompt, one)
            except Exception as error:  # as when there is no memory for the rows
                log.exception("%s could not begin", job.model.name)
                self._leave(choice, error=error)
                continue
            self._work.setdefault(job.model, _Work(job.model)).choices[index] = choice

    def _step(self, work: _Work) -> None:
        began = time.perf_counter()
        generation = work.model.generation
        try:
            tokens = generation.step()
            generation.take_finished()
        except Exception as error:
            # All of its rows are in an unknown state.
            log.exception("%s could not go on", work.model.name)
            work.model.restart()
            while work.choices:
                self._ended(work, next(iter(work.choices)), error=error)
            return
        for token in tokens:
            choice = work.choices.get(token.request)
            if choice is None:  # its reader has just gone
                continue
            if not choice.produced and self._observer:
                self._observer.started(work.model.name, max(0.0, began - choice.job.submitted))
                self._observer.first_token(work.model.name, time.perf_counter() - choice.job.submitted)
            choice.produced += 1
            choice.tokens.append(token)
            if token.finish is not None:
                self._ended(work, token.request, token.finish)

    def _ended(self, work: _Work, index: int, finish: Finish | None = None, error: Exception | None = None) -> None:
        choice = work.choices.pop(index)
        if not work.choices:
            del self._work[work.model]
        self._leave(choice, finish, error)

    def _leave(self, choice: _Choice, finish: Finish | None = None, error: Exception | None = None) -> None:
        model = choice.job.model
        # A reader who knows of the end may ask for more at once.
        with self._lock:
            model.users -= 1
            self._open -= 1
        if self._observer:
            seconds = time.perf_counter() - choice.job.submitted
            self._observer.finished(model.name, finish or "error", choice.produced, seconds)
        choice.job.news.append(Delivery(choice.number, choice.tokens, finish, error))
        self._deliver(choice.job)

    def _expire(self) -> None:
        now = time.perf_counter()
        for work in list(self._work.values()):
            for choice in list(work.choices.values()):
                if now > choice.job.deadline:
                    self.end(choice.job, None, "timeout")

    def _hand_over(self) -> None:
        """Deliver what has come: a first token at once, more of it now and then."""
        choices = [choice for work in self._work.values() for choice in work.choices.values()]
        now = time.perf_counter()
        pause = min(_LONGEST, _PER_JOB * (len(choices) - 1))
        for choice in choices:
            job = choice.job
            first = choice.tokens and len(choice.tokens) == choice.produced
            if choice.tokens and (first or now - job.delivered >= pause):
                job.news.append(Delivery(choice.number, choice.tokens))
                choice.tokens = []
        for job in {choice.job for choice in choices}:
            if job.news:
                self._deliver(job)
                job.delivered = now

    def _deliver(self, job: Job) -> None:
        news, job.news = job.news, []
        if job.gone:
            return
        try:
            job.deliver(news)
        except Exception as error:  # its event loop may have ended
            log.debug("nobody takes what was generated: %s", error)
            job.gone = True
            self.end(job, None, "cancelled")
