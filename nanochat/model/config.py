"""The shape of a model: `model.json`. Loads without torch, so that the dial can be read anywhere."""

from typing import Literal

from pydantic import Field

from nanochat.config.base import Settings


class GPTConfig(Settings):
    """Everything that defines the function a set of weights computes."""

    arch: Literal["classic", "modern"] = "modern"
    """`classic`: nanochat of October 2025. `modern`: value embeddings, per-layer scalars, smear, backout, windows."""
    depth: int = Field(ge=1)
    """Transformer blocks."""
    width: int = Field(ge=16)
    """Residual stream."""
    heads: int = Field(ge=1)
    """Query heads."""
    kv_heads: int = Field(ge=1)
    """Key/value heads."""
    head_dim: int = Field(ge=8, multiple_of=2)
    """Dimension of one head."""
    vocab_size: int = Field(ge=2)
    """Tokens."""
    sequence_length: int = Field(ge=2)
    """Context."""
    window_pattern: str = Field(default="L", pattern="^[SL]+$")
    """Attention windows per layer, repeated; the last layer is always L."""
    softcap: float = Field(default=15.0, gt=0, le=30)
    """Logits are softcap · tanh(logits / softcap)."""
    rope_theta: float = Field(default=10_000.0, gt=1)
    """Base of the rotary frequencies."""
    precision: Literal["auto", "float32", "bfloat16", "fp8"] = "auto"
    """Compute type the weights were trained with; the weights themselves are float32."""

    @property
    def windows(self) -> tuple[int, ...]:
        """Keys each layer sees, the query's own included: the context, or a quarter of it where the pattern says S."""
        short = max(1, self.sequence_length // 4)
        kinds = [self.window_pattern[layer % len(self.window_pattern)] for layer in range(self.depth)]
        kinds[-1] = "L"
        return tuple(short if kind == "S" else self.sequence_length for kind in kinds)

    @property
    def value_embedding_layers(self) -> tuple[int, ...]:
        """Layers that mix a value embedding in: every other one, counted back from the last; none in the classic."""
        if self.arch == "classic":
            return ()
        return tuple(layer for layer in range(self.depth) if layer % 2 == (self.depth - 1) % 2)

    @property
    def attention_sharpness(self) -> float:
        """Factor on the usual 1/√head_dim: the modern form scales the normalised q and k by 1.2 each."""
        return 1.44 if self.arch == "modern" else 1.0
