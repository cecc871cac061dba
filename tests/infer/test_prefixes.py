from hypothesis import given
from hypothesis import strategies as st

from nanochat.infer.prefixes import Shared, shared_prefixes


def test_samples_of_one_prompt_share_all_but_its_last_token():
    assert shared_prefixes([(1, 2, 3)] * 3, 64) == [Shared((0, 1, 2), 2)]


def test_different_prompts_share_whole_chunks():
    few_shots = tuple(range(130))
    groups = shared_prefixes([(*few_shots, 7, 8), (5,), (*few_shots, 9)], 64)
    assert sorted(groups, key=lambda group: group.members) == [Shared((0, 2), 128), Shared((1,), 0)]


def test_samples_are_not_given_up_for_a_short_common_beginning():
    first, second = (*range(64), *range(200, 400)), (*range(64), *range(500, 700))
    groups = shared_prefixes([first] * 4 + [second] * 4, 64)
    assert sorted(len(group.members) for group in groups) == [4, 4]
    assert {group.length for group in groups} == {263}


prompt = st.builds(
    lambda a, b, c: (*[1] * a, *[2] * b, *[3] * c), st.integers(0, 9), st.integers(0, 9), st.integers(1, 3)
)


@given(st.lists(prompt, max_size=12), st.integers(1, 4))
def test_each_prompt_is_in_one_group_and_shares_what_the_group_says(prompts, chunk):
    groups = shared_prefixes(prompts, chunk)
    assert sorted(place for group in groups for place in group.members) == list(range(len(prompts)))
    for group in groups:
        own = [prompts[place] for place in group.members]
        assert len({one[: group.length] for one in own}) == 1
        assert all(len(one) > group.length for one in own)
        assert len(set(own)) == 1 or group.length % chunk == 0
