"""Which tasks CORE is made of (DCLM, arXiv 2406.11794), and how a mean over some of them is to be named."""

from collections.abc import Mapping

from nanochat.evaluate.scores import extent

CORE_TASKS = frozenset(
    (
        "agi_eval_lsat_ar",
        "arc_challenge",
        "arc_easy",
        "bigbench_cs_algorithms",
        "bigbench_dyck_languages",
        "bigbench_language_identification",
        "bigbench_operators",
        "bigbench_qa_wikidata",
        "bigbench_repeat_copy_logic",
        "boolq",
        "commonsense_qa",
        "copa",
        "coqa",
        "hellaswag",
        "hellaswag_zeroshot",
        "jeopardy",
        "lambada_openai",
        "openbook_qa",
        "piqa",
        "squad",
        "winograd",
        "winogrande",
    )
)
"""Labels of the 22 tasks in the public bundle."""


def core_extent(items: Mapping[str, tuple[float, float]]) -> str:
    """In what a mean of centred scores falls short of CORE: `12 of 22 tasks, at most 200 items each`.

    Empty where it falls short in nothing.

    Args:
        items: task → items asked and items there are.
    """
    official = len(CORE_TASKS & items.keys())
    if official == len(items):
        return extent(list(items.values()), of=len(CORE_TASKS))
    whose = f"{len(items)} {'task' if len(items) == 1 else 'tasks'}, {official or 'none'} of CORE's {len(CORE_TASKS)}"
    rest = extent(list(items.values()))
    return f"{whose}, {rest}" if rest else whose
