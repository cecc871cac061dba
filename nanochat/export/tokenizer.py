"""The tokenizer as transformers wants it, with a chat template that renders conversations as nanochat.data does."""

import json
from importlib import resources
from typing import Any

from nanochat.data.tokenizer import SPECIAL_TOKENS

TEMPLATE_FILE = "chat_template.jinja"

_MARK = "\ufdd0"
"""A code point that is no character (Unicode keeps it for uses like this one). The chat template puts it into every
`<|` of a message, and the tokenizer takes it out again after it has looked for special tokens: so a message that spells
a special token stays text, as it does in this program."""


def exported_tokenizer(text: str) -> str:
    """tokenizer.json for transformers, of the text of ours.

    Special tokens become ones that the library finds in rendered conversations, and `<|bos|>` is put before a plain
    text unless `add_special_tokens=False`: that is how the model has seen text.
    """
    content = json.loads(text)
    vocabulary = content["model"]["vocab"]
    content["added_tokens"] = [
        {
            "id": vocabulary[name],
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for name in SPECIAL_TOKENS
    ]
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": rf"(?<=<){_MARK}(?=\|)"}, "content": ""}
    # Tokens that only fill the vocabulary up stand for nothing.
    nothing = {"type": "Replace", "pattern": {"Regex": r"^<\|unused_\d+\|>$"}, "content": ""}
    content["decoder"] = {"type": "Sequence", "decoders": [nothing, content["decoder"]]}
    bos = {"SpecialToken": {"id": "<|bos|>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, second],
        "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [vocabulary["<|bos|>"]], "tokens": ["<|bos|>"]}},
    }
    return json.dumps(content, ensure_ascii=False)


def tokenizer_config(context: int, *, chats: bool) -> dict[str, Any]:
    """tokenizer_config.json.

    Args:
        context: tokens the model was trained with.
        chats: whether it answers messages, or continues text.
    """
    eos = "<|assistant_end|>" if chats else "<|bos|>"
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": eos,
        "pad_token": "<|bos|>",
        "additional_special_tokens": [name for name in SPECIAL_TOKENS if name not in ("<|bos|>", eos)],
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
    }


def chat_template() -> str:
    """chat_template.jinja; equal to `render` and `render_prompt` of nanochat.data.conversation token by token."""
    return resources.files("nanochat.export").joinpath(TEMPLATE_FILE).read_text(encoding="utf-8")
