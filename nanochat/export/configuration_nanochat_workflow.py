"""The shape of a model of nanochat-as-a-workflow, modern form, for transformers; shipped with every such export."""

from typing import Any

from transformers import PretrainedConfig


class NanoChatWorkflowConfig(PretrainedConfig):
    """What `NanoChatWorkflowForCausalLM` is built from.

    Attributes:
        attention_windows: keys that each layer's queries see, their own included.
        value_embedding_layers: layers that mix an embedding of the token into their values.
        gate_channels: channels of the hidden state that the gates of values read.
        smear_channels: channels that the gate of the previous token's embedding reads.
        backout_layer: layer whose output is partly taken away before the head.
        attention_sharpness: factor on the usual 1/√head_dim.
    """

    model_type = "nanochat_workflow"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 65536,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 6,
        num_key_value_heads: int = 6,
        head_dim: int = 128,
        max_position_embeddings: int = 2048,
        attention_windows: list[int] | None = None,
        value_embedding_layers: list[int] | None = None,
        gate_channels: int = 12,
        smear_channels: int = 24,
        backout_layer: int = 5,
        attention_sharpness: float = 1.44,
        rope_theta: float = 100_000.0,
        rms_norm_eps: float = 1e-6,
        final_logit_softcapping: float = 15.0,
        initializer_range: float = 0.02,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.max_position_embeddings = max_position_embeddings
        self.attention_windows = attention_windows or [max_position_embeddings] * num_hidden_layers
        self.value_embedding_layers = value_embedding_layers or []
        self.gate_channels = gate_channels
        self.smear_channels = smear_channels
        self.backout_layer = backout_layer
        self.attention_sharpness = attention_sharpness
        self.rope_theta = rope_theta
        self.rms_norm_eps = rms_norm_eps
        self.final_logit_softcapping = final_logit_softcapping
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        super().__init__(**kwargs)
