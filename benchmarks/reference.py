"""A checkout of karpathy/nanochat as the workers named `worker_…reference.py` use it.

Nothing of this repository is imported, as both packages have the same name; and nothing of the checkout before `use`
has put it on the path.
"""

import sys
from pathlib import Path
from typing import Any


def use(checkout: str) -> None:
    """Let `import nanochat` mean the checkout.

    Args:
        checkout: its folder.

    Raises:
        ImportError: if the name is taken by another package all the same.
    """
    folder = Path(checkout).resolve()
    sys.path.insert(0, str(folder))
    from nanochat import gpt

    if not Path(gpt.__file__).is_relative_to(folder):
        raise ImportError(f"nanochat.gpt was taken from {gpt.__file__}, expected it below {folder}")


def build(shape: dict[str, Any]) -> Any:
    """Its model on the CPU, as its base training script goes: built without storage, filled on the device.

    Args:
        shape: the fields of `Shape`, and `heads`.

    Returns:
        Its `GPT`, in training mode, with the weights of seed 0.
    """
    import torch

    from nanochat import gpt

    config = gpt.GPTConfig(
        sequence_len=shape["sequence_length"],
        vocab_size=shape["vocab_size"],
        n_layer=shape["depth"],
        n_head=shape["heads"],
        n_kv_head=shape["heads"],
        n_embd=shape["heads"] * shape["head_dim"],
        window_pattern=shape["window_pattern"],
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        model = gpt.GPT(config)
    model.to_empty(device="cpu")
    model.init_weights()
    return model
