"""A stand-in for a checkout of karpathy/nanochat: the few names that benchmarks/worker_reference.py uses.

The real one cannot be had in a test. This is a model of its own with the same interface, so that the way through the
other process is run: the package of the same name, the choice of the compute type, turns, rows, failures.
"""

GPT = """
import os
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import nn

DTYPE = torch.bfloat16 if os.environ.get("NANOCHAT_DTYPE") == "bfloat16" else torch.float32
print("something a library prints")


@dataclass
class GPTConfig:
    sequence_len: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int
    window_pattern: str


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.register_buffer("cos", torch.zeros(1, dtype=DTYPE), persistent=False)

    def init_weights(self):
        nn.init.normal_(self.wte.weight)
        nn.init.zeros_(self.lm_head.weight)

    def estimate_flops(self):
        return 6 * self.lm_head.weight.numel()

    def setup_optimizer(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)

    def forward(self, idx, targets):
        logits = F.linear(self.wte(idx).to(DTYPE), self.lm_head.weight.to(DTYPE)).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
"""

CORE_EVAL = """
import torch


def evaluate_task(model, tokenizer, data, device, task_meta):
    assert task_meta["task_type"] in ("multiple_choice", "schema", "language_modeling")
    assert len(data) > task_meta["num_fewshot"]
    for item in data:
        texts = [str(value) for value in item.values()]
        for tokens in tokenizer(texts, prepend=tokenizer.get_bos_token_id()):
            with torch.no_grad():
                model(torch.tensor([tokens[:64]]), torch.tensor([tokens[:64]]))
    return 0.5
"""


ENGINE = """
class Engine:
    def __init__(self, model, tokenizer):
        assert tokenizer.get_bos_token_id() != tokenizer.encode_special("<|assistant_end|>")

    def generate(self, tokens, num_samples=1, max_tokens=None, temperature=1.0):
        for _ in range(max_tokens):
            yield [tokens[-1]] * num_samples, [1] * num_samples
"""
