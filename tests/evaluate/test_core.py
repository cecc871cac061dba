import itertools
import json
import random

import pytest

from nanochat.config import TokenizerSettings
from nanochat.data.tokenizer import Tokenizer
from nanochat.errors import DataError
from nanochat.evaluate.core import CoreTask, judge, read_bundle, render_items, texts_of
from nanochat.evaluate.core_batches import evaluate_batch, plan_batches, share_out
from nanochat.infer.scoring import SpanLoss, one_by_one
from tests.infer.fixtures import TEXTS, make_model

NAMES = ["Anna", "Ben", "Clara", "Dora", "Emma", "Frank", "Gina", "Hugo"]
TOWNS = ["Ashford", "Oakham", "Redcliff", "Highmoor"]

CORE_YAML = """
icl_tasks:
- label: homes
  dataset_uri: a/homes.jsonl
  num_fewshot: [3]
  icl_task_type: multiple_choice
  continuation_delimiter: "\\nAnswer: "
- label: who
  dataset_uri: a/who.jsonl
  num_fewshot: [0]
  icl_task_type: schema
- label: cloze
  dataset_uri: a/cloze.jsonl
  num_fewshot: [2]
  icl_task_type: language_modeling
"""


def write_bundle(folder):
    data = folder / "eval_data" / "a"
    data.mkdir(parents=True)
    (folder / "core.yaml").write_text(CORE_YAML)
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\nhomes,25\nwho,50\ncloze,0\nmmlu,25\n")
    generator = random.Random(0)
    homes = [
        {
            "query": f"Question: Where does {name} live{'?' * (1 + index % 3)}",
            "choices": generator.sample(TOWNS, 4 if index else 2),
            "gold": generator.randrange(2),
        }
        for index, name in enumerate(NAMES)
    ]
    who = [
        {"context_options": [f"{a} hit {b} because {a}", f"{a} hit {b} because {b}"], "continuation": "ran.", "gold": 0}
        for a, b in itertools.pairwise(NAMES)
    ]
    cloze = [{"context": f"The home of {name} is in ", "continuation": TOWNS[i % 4]} for i, name in enumerate(NAMES)]
    for name, rows in (("homes", homes), ("who", who), ("cloze", cloze)):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


def evaluate(model, tokenizer, tasks, max_items=None, rows=4):
    """Task → records by item, through the batches that the stage computes."""
    context = model.config.sequence_length
    records = {task.label: {} for task in tasks}
    for batch in plan_batches(tasks, max_items, tokenizer, context, rows * context):
        for asked, record in zip(batch, evaluate_batch(model, batch), strict=True):
            records[asked.task.label][asked.index] = record
    return {label: [found[index] for index in sorted(found)] for label, found in records.items()}


@pytest.mark.parametrize("arch", ["modern", "classic"])
@pytest.mark.parametrize("rows", [1, 3, 64])
def test_batches_agree_with_one_by_one(bundle, tokenizer, arch, rows):
    model = make_model(tokenizer.vocab_size, arch, context=64)  # short enough that some prompts are cut
    tasks = read_bundle(bundle)
    records = evaluate(model, tokenizer, tasks, rows=rows)
    for task in tasks:
        assert [record["item"] for record in records[task.label]] == list(range(len(task.items)))
        for record, item in zip(records[task.label], render_items(task, range(len(task.items)), tokenizer)):
            alone = one_by_one(model, item.spans)
            assert record["loss_sums"] == pytest.approx([loss.total for loss in alone], abs=1e-3)
            assert record["loss_tokens"] == [loss.tokens for loss in alone]
            if task.kind == "language_modeling":
                assert record["correct"] == alone[0].greedy
            else:
                means = [loss.mean for loss in alone]
                assert record["picked"] == str(means.index(min(means)))
                assert record["correct"] == (means.index(min(means)) == task.items[record["item"]]["gold"])


def test_truncation_is_counted(bundle, tokenizer):
    task = read_bundle(bundle, ["homes"])[0]
    [short] = evaluate(make_model(tokenizer.vocab_size, context=32), tokenizer, [task], 1)["homes"]
    [long] = evaluate(make_model(tokenizer.vocab_size, context=512), tokenizer, [task], 1)["homes"]
    assert short["truncated"] and not long["truncated"]
    assert short["prompt"] == long["prompt"]  # what was asked, before cropping
    assert max(short["context_tokens"]) < 32 < min(long["context_tokens"])


def test_prompts_read_as_they_should(bundle):
    homes, who, cloze = read_bundle(bundle)
    context, choice = texts_of(homes, 2)[1]
    assert context.count("\n\n") == 3 and context.count("Answer: ") == 4
    assert context.endswith(homes.items[2]["query"] + "\nAnswer: ") and choice == homes.items[2]["choices"][1]
    assert homes.items[2] not in homes.examples(2)
    assert texts_of(who, 0)[1] == (who.items[0]["context_options"][1] + " ", "ran.")
    context, continuation = texts_of(cloze, 0)[0]
    assert context.count("\n\n") == 2 and context.endswith("is in ") and continuation == cloze.items[0]["continuation"]


def test_spans_cover_what_differs(bundle, tokenizer):
    homes, who, cloze = read_bundle(bundle)
    for item, rendered in zip(homes.items, render_items(homes, range(len(homes.items)), tokenizer)):
        for choice, span in zip(item["choices"], rendered.spans):
            judged = tokenizer.decode(span.tokens[span.start :])
            assert choice.endswith(judged.strip()) and span.tokens[0] == tokenizer.bos
    for rendered in render_items(who, range(len(who.items)), tokenizer):
        assert {tokenizer.decode(s.tokens[s.start :])[-4:] for s in rendered.spans} == {"ran."}
        assert len({s.tokens[s.start :] for s in rendered.spans}) == 1
    for item, rendered in zip(cloze.items, render_items(cloze, range(len(cloze.items)), tokenizer)):
        span = rendered.spans[0]
        assert tokenizer.decode(span.tokens[span.start :]) == f" {item['continuation']}" and not rendered.fallback


def test_a_border_inside_a_token_falls_back_and_is_counted(bundle, tokenizer):
    path = bundle / "eval_data/a/cloze.jsonl"
    path.write_text(json.dumps({"context": "The dog is call", "continuation": "ed Milo"}) + "\n")
    (bundle / "core.yaml").write_text(CORE_YAML + '  continuation_delimiter: ""\n')
    task = read_bundle(bundle, ["cloze"])[0]
    assert len(tokenizer.encode(" called")) < len(tokenizer.encode(" call") + tokenizer.encode("ed"))
    rendered = render_items(task, [0], tokenizer)[0]
    span = rendered.spans[0]
    assert rendered.fallback and tokenizer.decode(span.tokens[span.start :]) == "ed Milo"


def test_one_choice_may_begin_another(bundle, tokenizer):
    (bundle / "eval_data/a/homes.jsonl").write_text(
        json.dumps({"query": "Q", "choices": ["a dog", "a dog has"], "gold": 1}) + "\n"
    )
    spans = render_items(read_bundle(bundle, ["homes"])[0], [0], tokenizer)[0].spans
    assert all(0 < span.start < len(span.tokens) for span in spans)


def test_capping_items_changes_no_prompt(bundle, model, tokenizer):
    tasks = read_bundle(bundle)
    whole, capped = evaluate(model, tokenizer, tasks), evaluate(model, tokenizer, tasks, 3)
    for label, records in capped.items():
        assert records == [
            record | {"loss_sums": pytest.approx(record["loss_sums"], abs=1e-4)} for record in whole[label][:3]
        ]
    assert len({record["prompt"] for records in whole.values() for record in records}) == 8 + 7 + 8


def test_permuted_choices_change_no_pick(bundle, model, tokenizer):
    tasks = read_bundle(bundle, ["homes", "who"])
    before = evaluate(model, tokenizer, tasks)
    for label, name in (("homes", "choices"), ("who", "context_options")):
        path = bundle / f"eval_data/a/{label}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row[name], row["gold"] = row[name][::-1], len(row[name]) - 1 - row["gold"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    after = evaluate(model, tokenizer, read_bundle(bundle, ["homes", "who"]))
    for label, records in before.items():
        for one, other in zip(records, after[label], strict=True):
            assert other["loss_sums"] == pytest.approx(one["loss_sums"][::-1], abs=1e-4)
            assert one["correct"] == other["correct"]


def test_batches_are_shared_out_evenly():
    sizes = [9, 1, 5, 5, 1, 1]
    shares = share_out(sizes, 2)
    assert sorted(index for share in shares for index in share) == list(range(6))
    assert [sum(sizes[index] for index in share) for share in shares] == [11, 11]
    assert share_out([3], 4) == [[0], [], [], []] and share_out([], 2) == [[], []]


def test_chance_comes_from_the_items(bundle):
    homes, who, cloze = read_bundle(bundle)
    assert homes.chance == pytest.approx((7 * 0.25 + 0.5) / 8) and homes.baseline == 0.25
    assert who.chance == 0.5 and cloze.chance == 0.0 == cloze.baseline


def test_damaged_bundles_are_named(bundle):
    with pytest.raises(DataError, match=r"base_eval\.tasks: hoems is not in"):
        read_bundle(bundle, ["hoems"])
    path = bundle / "eval_data/a/who.jsonl"
    path.write_text('{"context_options": ["a", "b"], "gold": 0}\n')
    with pytest.raises(DataError, match="line 1 has no 'continuation'"):
        read_bundle(bundle)
    path.write_text('{"context_opt')
    with pytest.raises(DataError, match=r"who\.jsonl cannot be read"):
        read_bundle(bundle)
    path.unlink()
    with pytest.raises(DataError, match=r"who\.jsonl cannot be read"):
        read_bundle(bundle)
    (bundle / "eval_meta_data.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match=r"eval_meta_data\.csv cannot be read"):
        read_bundle(bundle)


@pytest.mark.shared
def test_the_public_bundle_renders(shared_hub, tokenizer):
    tasks = read_bundle(shared_hub / "eval_bundle")
    assert len(tasks) == 12
    for task in tasks:
        items = render_items(task, range(min(3, len(task.items))), tokenizer)
        assert all(0 < span.start < len(span.tokens) for item in items for span in item.spans)
    assert {task.label: task.baseline for task in tasks}["bigbench_language_identification"] == pytest.approx(0.091)
    assert {task.label: task.chance for task in tasks}["bigbench_language_identification"] == 0.25


def test_models_with_other_tokenizers_are_asked_the_same(bundle, tokenizer):
    other = Tokenizer.train(TEXTS[:3], TokenizerSettings(vocab_size=320, max_digits=1))
    for task in read_bundle(bundle):
        items = range(len(task.items))
        one, two = (render_items(task, items, t) for t in (tokenizer, other))
        assert [item.spans for item in one] != [item.spans for item in two]
        assert [item.digest for item in one] == [item.digest for item in two]
        assert len({item.digest for item in one}) == len({str(texts_of(task, index)) for index in items})


@pytest.mark.parametrize(
    ("name", "item", "said"),
    [
        ("homes", {"query": "Q", "choices": ["a", "b"], "gold": 2}, r"line 2 has 2 options and gold = 2, expected"),
        ("homes", {"query": "Q", "choices": [], "gold": 0}, "line 2 has 0 options"),
        ("who", {"context_options": ["a", "b"], "continuation": "c", "gold": "1"}, "gold = '1', expected"),
        ("cloze", {"context": "Anna lives in", "continuation": " "}, "has an empty 'continuation'"),
        ("cloze", ["Anna lives in", "Ashford"], "has no 'context'"),
    ],
)
def test_items_that_no_answer_or_every_one_fits_are_refused(bundle, name, item, said):
    path = bundle / f"eval_data/a/{name}.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n" + json.dumps(item) + "\n")
    with pytest.raises(DataError, match=said):
        read_bundle(bundle)


def test_the_first_of_equal_choices_is_picked_whatever_rounding_says():
    item = {"query": "A puppy inherits from", "choices": ["its mother", "both", "its mother"], "gold": 1}
    task = CoreTask("made", "multiple_choice", 0, " ", None, (item,))
    losses = [SpanLoss(2.0 + 1e-9, 2, False), SpanLoss(9.0, 2, False), SpanLoss(2.0, 2, False)]
    record = judge(task, 0, losses, {})
    assert record["picked"] == "0" and record["correct"] is False
