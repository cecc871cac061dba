"""An export computes and says what our own model does."""

import json

import pytest
import torch

from nanochat.data.conversation import render_prompt
from nanochat.infer.engine import Engine
from nanochat.infer.sampling import SamplingParams
from tests.export.conftest import CONTEXT, export

FORMS = ["classic", "modern"]
QUESTIONS = ["What is 12 + 7?", "Anna has a dog.", "How many letters r are in strawberry?", "é ✓ \n\n  def"]


@pytest.fixture(params=FORMS)
def both(request, exports, load):
    """Our model and tokenizer, and transformers'."""
    made = exports(request.param)
    return made.model, made.tokenizer, *load(made.folder)


def tokens_of(model, rows=4, length=CONTEXT):
    return torch.randint(0, model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def test_the_stock_class_is_used_where_it_can_be(exports, load, transformers):
    model, _ = load(exports("classic").folder)
    assert type(model) is transformers.NanoChatForCausalLM
    assert not list(exports("classic").folder.glob("*.py"))
    shape = json.loads((exports("classic").folder / "config.json").read_text())
    assert shape["intermediate_size"] == 4 * shape["hidden_size"]
    model, _ = load(exports("modern").folder)
    assert type(model).__module__.startswith("transformers_modules.")


@torch.no_grad()
def test_logits_are_ours(both):
    ours, _, theirs, _ = both
    tokens = tokens_of(ours)
    expected = ours(tokens)
    assert expected.std() > 0.1
    torch.testing.assert_close(theirs(tokens).logits, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_every_part_of_the_modern_form_counts(exports, load):
    model, _ = load(exports("modern").folder)
    tokens, parameters = tokens_of(model, rows=1), dict(model.named_parameters())
    expected = model(tokens).logits
    parts = ["smear_scale", "backout_scale", "x0_scales", "residual_scales", "value_gate", "value_embedding"]
    for part in parts:
        for parameter in (parameters[name] for name in parameters if part in name):
            before = parameter.clone()
            parameter.zero_()
            assert (model(tokens).logits - expected).abs().max() > 1e-3, part
            parameter.copy_(before)
    assert sorted(set(model.config.attention_windows)) == [CONTEXT // 4, CONTEXT]


@torch.no_grad()
def test_greedy_text_is_ours(both):
    ours, tokenizer, theirs, other = both
    prompts = [render_prompt(tokenizer, {"messages": [{"role": "user", "content": text}]}) for text in QUESTIONS]
    # Long enough for windows to matter.
    params = SamplingParams(max_tokens=CONTEXT - max(map(len, prompts)), temperature=0)
    completions = Engine(ours, tokenizer, tools=False).generate(prompts, params)
    for text, prompt, completion in zip(QUESTIONS, prompts, completions):
        messages = [{"role": "user", "content": text}]
        inputs = other.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        assert inputs["input_ids"][0].tolist() == prompt
        ids = theirs.generate(**inputs, max_new_tokens=params.max_tokens, do_sample=False)[0, len(prompt) :].tolist()
        assert ids == completion.ids
        assert other.decode(ids) == tokenizer.decode(completion.ids)


def test_generation_ends_where_ours_does(both):
    _, tokenizer, theirs, other = both
    ends = {tokenizer.bos, tokenizer.special["<|assistant_end|>"]}
    assert set(theirs.generation_config.eos_token_id) == ends
    assert other.eos_token == "<|assistant_end|>"
    assert (theirs.generation_config.temperature, theirs.generation_config.top_k) == (0.8, 50)


@torch.no_grad()
def test_cache_changes_nothing(both):
    ours, _, theirs, _ = both
    tokens = tokens_of(ours, rows=2)
    expected = theirs(tokens).logits
    cache, parts = None, []
    for start, end in ((0, 5), (5, 6), (6, 60), (60, 61), (61, CONTEXT)):
        output = theirs(tokens[:, start:end], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-4, rtol=0)
    for beams in (1, 3):
        settings = {"max_new_tokens": 50, "do_sample": False, "num_beams": beams}
        cached = theirs.generate(tokens[:, :9], **settings)
        assert cached.tolist() == theirs.generate(tokens[:, :9], use_cache=False, **settings).tolist()


@torch.no_grad()
def test_padding_on_the_left_changes_nothing(both):
    _, tokenizer, theirs, other = both
    prompts = [[tokenizer.bos, *tokenizer.encode(text)] for text in QUESTIONS]
    padded = other.pad({"input_ids": prompts}, return_tensors="pt")
    assert padded["attention_mask"].sum() < padded["attention_mask"].numel()
    together = theirs.generate(**padded, max_new_tokens=24, do_sample=False)[:, padded["input_ids"].shape[1] :]
    for prompt, ids in zip(prompts, together.tolist()):
        alone = theirs.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0, len(prompt) :].tolist()
        assert ids[: len(alone)] == alone


def test_losses_are_ours_and_have_gradients(both):
    ours, _, theirs, _ = both
    tokens = tokens_of(ours, rows=2)
    loss = theirs(tokens, labels=tokens).loss
    expected = ours.token_losses(tokens[:, :-1], tokens[:, 1:]).mean()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)
    loss.backward()
    assert all(parameter.grad is not None for parameter in theirs.parameters())
    theirs.zero_grad()


def test_saved_again_it_is_the_same(both, load, tmp_path):
    ours, tokenizer, theirs, other = both
    theirs.save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    again, tokenizer_again = load(tmp_path)
    tokens = tokens_of(ours, rows=1)
    with torch.no_grad():
        assert torch.equal(again(tokens).logits, theirs(tokens).logits)
    assert tokenizer_again.encode(QUESTIONS[0]) == [tokenizer.bos, *tokenizer.encode(QUESTIONS[0])]


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16(form, exports, load, tmp_path):
    made = exports(form)
    folder = export(made.run, settings=("export.dtype=bfloat16",), out=tmp_path / "run" / "export" / "sft")
    assert (folder / "model.safetensors").stat().st_size < 0.55 * (made.folder / "model.safetensors").stat().st_size
    model, _ = load(folder, dtype="auto")
    assert model.dtype == torch.bfloat16
    tokens = tokens_of(made.model, rows=1)
    with torch.no_grad():
        assert (model(tokens).logits - made.model(tokens)).abs().max() < 0.5


def test_wrong_use_of_the_modern_form_is_named(exports, load, transformers):
    model, _ = load(exports("modern").folder)
    tokens = torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="input_ids is missing"):
        model(inputs_embeds=torch.zeros(1, 3, model.config.hidden_size))
    with pytest.raises(ValueError, match=r"attention_mask has the shape \(1, 2\), expected \(1, 3\)"):
        model(tokens, attention_mask=torch.ones(1, 2))
    cache = transformers.StaticCache(config=model.config, max_cache_len=8)
    with pytest.raises(ValueError, match="StaticCache, expected one that grows"):
        model(tokens, past_key_values=cache)
