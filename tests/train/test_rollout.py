import numpy as np
import pytest

from nanochat.infer.engine import Completion
from nanochat.train.rollout import Rollout, advantages, pack


def rollout(prompt: list[int], ids: list[int], forced: set[int] = frozenset(), advantage: float = 1.0) -> Rollout:
    sampled = [place not in forced for place in range(len(ids))]
    return Rollout(prompt, Completion(ids, sampled, [-0.5] * len(ids), "stop"), advantage)


def test_advantages_are_relative_to_the_group():
    rewards = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    plain = advantages(rewards, normalize_std=False)
    assert plain.tolist() == [[0.75, -0.25, -0.25, -0.25], [0.0, 0.0, 0.0, 0.0]]
    scaled = advantages(rewards, normalize_std=True)
    assert scaled[0].std() == pytest.approx(1.0, abs=1e-4)
    assert scaled[1].tolist() == [0.0] * 4


def test_only_what_the_model_sampled_is_learned_end_token_included():
    first = rollout([50, 51, 52], [1, 2, 3, 9], forced={2}, advantage=0.5)
    second = rollout([60], [4, 9], advantage=-0.25)
    batch = pack([first, second], 12, bos=0)
    assert batch.rows == 1
    assert batch.inputs[0, :8].tolist() == [50, 51, 52, 1, 2, 3, 60, 4]
    assert batch.targets[0].tolist() == [-1, -1, 1, 2, -1, 9, 4, 9, -1, -1, -1, -1]
    assert batch.segments[0].tolist() == [0] * 6 + [1] * 2 + [2] * 4
    assert batch.weights[0, :8].tolist() == [0.5] * 6 + [-0.25] * 2
    assert batch.valid_targets == 5


def test_nothing_to_learn_is_no_row():
    assert pack([], 12, bos=0).rows == 0
