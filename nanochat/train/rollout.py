"""Batches of RL: answers sampled from the model itself, rewarded, compared within their group, packed into rows."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nanochat.config import RlSettings
from nanochat.data.conversation import render_prompt
from nanochat.data.packing import Batch, best_fit
from nanochat.data.tokenizer import Tokenizer
from nanochat.evaluate.tasks.base import Task
from nanochat.infer.engine import Completion, Engine
from nanochat.infer.sampling import SamplingParams
from nanochat.model.gpt import GPT
from nanochat.runtime import World, inference_dtype
from nanochat.train.trainer import StepBatch

SLOTS = 128
"""Rows generated at once. Fixed, because another number could change the last bit of a logit, and with it a sample."""


@dataclass(frozen=True)
class Rollout:
    """One sampled answer.

    Attributes:
        advantage: reward minus the group's mean.
    """

    prompt: list[int]
    completion: Completion
    advantage: float


def advantages(rewards: np.ndarray, normalize_std: bool) -> np.ndarray:
    """Rewards relative to their group.

    Args:
        rewards: (groups, samples).
        normalize_std: also divide by the group's standard deviation (GRPO, arXiv 2402.03300); without it this is
            Dr. GRPO (arXiv 2503.20783).
    """
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    return centred / (rewards.std(axis=1, keepdims=True) + 1e-6) if normalize_std else centred


def pack(rollouts: Sequence[Rollout], sequence_length: int, bos: int) -> Batch:
    """Rows of whole answers with their prompts.

    Only what the model sampled is a target, the end token included; what a tool put in is not. The weight of a
    target is its answer's advantage.
    """
    lengths = [len(r.prompt) + len(r.completion.ids) - 1 for r in rollouts]
    rows = best_fit(lengths, sequence_length)
    batch = Batch.padding(len(rows), sequence_length, bos)
    weights = np.zeros(batch.inputs.shape, dtype=np.float32)
    for row, pieces in enumerate(rows):
        column = 0
        for segment, (index, start, length) in enumerate(pieces):
            rollout = rollouts[index]
            ids = np.array([*rollout.prompt, *rollout.completion.ids], dtype=np.int32)
            sampled = np.array([*[False] * len(rollout.prompt), *rollout.completion.sampled])
            inside, place = slice(start + 1, start + length + 1), slice(column, column + length)
            batch.inputs[row, place] = ids[start : start + length]
            batch.targets[row, place] = np.where(sampled[inside], ids[inside], -1)
            batch.segments[row, place] = segment
            weights[row, place] = rollout.advantage
            column += length
        batch.segments[row, column:] = len(pieces)
    batch.weights = weights
    return batch


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


class RolloutSource:
    """Step s: `prompts_per_step` problems in seeded order, `samples_per_prompt` answers each, from the model as it is.

    Every sample's seed comes from (seed, step, problem, sample): with the weights restored, a resumed step samples
    what the interrupted one did.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        task: Task,
        items: Sequence[int],
        settings: RlSettings,
        seed: int,
        world: World,
    ) -> None:
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.items, self.settings, self.seed, self.world = items, settings, seed, world
        self._before_token: Callable[[], None] | None = None

    def watch(self, before_token: Callable[[], None]) -> None:
        """Have something called before each token that is sampled; what it raises ends the reading of a step."""
        self._before_token = before_token

    def problems(self, step: int) -> list[int]:
        """Items of the 0-based `step`, over all ranks; each pass over the items has an order of its own."""
        chosen = []
        first = step * self.settings.prompts_per_step
        for position in range(first, first + self.settings.prompts_per_step):
            epoch, place = divmod(position, len(self.items))
            chosen.append(
                self.items[int(np.random.default_rng([self.seed, epoch]).permutation(len(self.items))[place])]
            )
        return chosen

    def _generate(
        self,
        prompts: list[list[int]],
        params: SamplingParams | list[SamplingParams],
        before_token: Callable[[], None] | None = None,
    ) -> list[Completion]:
        dtype = inference_dtype(self.model.config.precision, self.model.device)
        if not prompts:
            return []
        with self.model.computing_in(dtype):  # an engine has the weights of the moment at which it is made
            engine = Engine(self.model, self.tokenizer, slots=SLOTS)
        return engine.generate(prompts, params, before_token)

    def _mine(self, items: Sequence[int]) -> Sequence[int]:
        rank, size = self.world.rank, self.world.size
        return items[rank * len(items) // size : (rank + 1) * len(items) // size]

    def rewards(self, items: Sequence[int], completions: Sequence[Completion]) -> np.ndarray:
        """(completions,) the task's rewards; an answer that was cut off has none."""
        texts = [self.tokenizer.decode(completion.ids, skip_special=True) for completion in completions]
        ended = np.array([completion.finish == "stop" for completion in completions])
        return np.array(self.task.rewards(items, texts), dtype=np.float64) * ended

    def read(self, step: int) -> StepBatch:
        """Sample, reward and pack the rows of the 0-based `step` for this rank."""
        settings = self.settings
        started = time.perf_counter()
        items = self._mine(self.problems(step))
        prompts = [render_prompt(self.tokenizer, self.task.conversation(item)) for item in items]
        params = [
            SamplingParams(
                max_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                seed=_seed(self.seed, step, item, sample),
                logprobs=True,
            )
            for item in items
            for sample in range(settings.samples_per_prompt)
        ]
        repeated = [prompt for prompt in prompts for _ in range(settings.samples_per_prompt)]
        completions = self._generate(repeated, params, self._before_token)
        generated = time.perf_counter()
        shape = (len(items), settings.samples_per_prompt)
        owners = [item for item in items for _ in range(settings.samples_per_prompt)]
        rewards = self.rewards(owners, completions).reshape(shape)
        rewarded = time.perf_counter()
        relative = advantages(rewards, settings.normalize_std)
        mixed = rewards.max(axis=1, initial=-math.inf) > rewards.min(axis=1, initial=math.inf)
        kept = mixed if settings.drop_uniform_groups else np.ones(len(items), dtype=bool)
        rollouts = [
            Rollout(repeated[index], completions[index], float(relative.flat[index]))
            for index in range(len(completions))
            if kept[index // settings.samples_per_prompt]
        ]
        batch = pack(rollouts, self.model.config.sequence_length, self.tokenizer.bos)
        metrics = self._measure(completions, rewards, mixed)
        times = {"seconds_rollout": generated - started, "seconds_reward": rewarded - generated}
        return StepBatch(batch, metrics | times)

    def _measure(self, completions: Sequence[Completion], rewards: np.ndarray, mixed: np.ndarray) -> dict[str, float]:
        """Means over the answers of all ranks."""
        sampled = [[p for p, own in zip(c.logprobs, c.sampled, strict=True) if own] for c in completions]
        sums = [
            float(rewards.sum()),
            float(len(completions)),
            float(sum(len(c.ids) for c in completions)),
            -math.fsum(math.fsum(values) for values in sampled),
            float(sum(len(values) for values in sampled)),
            float(sum(c.finish == "length" for c in completions)),
            float(mixed.sum()),
            float(len(mixed)),
        ]
        total = self.world.sum_(torch.tensor(sums, dtype=torch.float64, device=self.model.device)).tolist()
        reward, answers, tokens, surprise, own, cut, useful, groups = total
        return {
            "reward": reward / answers,
            "response_tokens": tokens / answers,
            "entropy": surprise / max(1.0, own),
            "cut_off": cut / answers,
            "useful_groups": useful / groups,
        }

    def pass_at_1(self, items: Sequence[int]) -> dict[str, float]:
        """Share of problems whose greedy answer is right."""
        mine = self._mine(items)
        prompts = [render_prompt(self.tokenizer, self.task.conversation(item)) for item in mine]
        params = SamplingParams(max_tokens=self.settings.max_new_tokens, temperature=0.0)
        completions = self._generate(prompts, params)
        right = float(self.rewards(mine, completions).sum())
        count = torch.tensor([right, float(len(mine))], dtype=torch.float64, device=self.model.device)
        right, total = self.world.sum_(count).tolist()
        return {"pass_at_1": right / total} if total else {}
