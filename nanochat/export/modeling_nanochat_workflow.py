"""The modern form of nanochat-as-a-workflow for transformers; shipped with every such export, needs nothing else.

Beside a plain decoder (RMSNorm without weights, rotary positions and then QK-norm, relu² MLP, softcapped logits): value
embeddings mixed into the values of every other layer through a gate; a scalar on the residual stream and one on the
first embedding per layer; smear (a gated share of the previous token's embedding); backout (a share of the residual
stream at mid-depth is taken away before the head); sliding windows; sharper attention.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_nanochat_workflow import NanoChatWorkflowConfig


def _norm(x: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    # The second half of `sin` is negated.
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def _remember(cache: Cache, layer: int, tokens: Tensor) -> Tensor:
    """(batch, keys) tokens of the cached rows; they lie in a layer of their own, so that beams carry them along."""
    while len(cache.layers) <= layer:
        cache.layers.append(DynamicLayer())
    entry = tokens[:, None, :, None]
    return cache.update(entry, entry, layer)[0][:, 0, :, 0]


class NanoChatWorkflowAttention(nn.Module):
    """Causal self-attention of one layer, with an optional value embedding."""

    def __init__(self, config: NanoChatWorkflowConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        self.window = config.attention_windows[layer]
        self.scale = config.attention_sharpness / math.sqrt(config.head_dim)
        width, kv_width = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(width, config.num_attention_heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * config.head_dim, width, bias=False)
        self.mixes_value = layer in config.value_embedding_layers
        if self.mixes_value:
            self.value_embedding = nn.Embedding(config.vocab_size, kv_width)
            self.value_gate = nn.Linear(config.gate_channels, config.num_key_value_heads, bias=False)

    def forward(
        self, x: Tensor, tokens: Tensor, cos: Tensor, sin: Tensor, masks: dict[int, Tensor], cache: Cache | None
    ) -> Tensor:
        """(batch, T, width) from the same; `masks`: window → (batch or 1, 1, T, keys), True where a key is seen."""
        config = self.config
        q = self.q_proj(x).unflatten(-1, (-1, config.head_dim))
        k = self.k_proj(x).unflatten(-1, (-1, config.head_dim))
        v = self.v_proj(x).unflatten(-1, (-1, config.head_dim))
        if self.mixes_value:
            gate = 2 * torch.sigmoid(self.value_gate(x[..., : config.gate_channels]))
            v = v + gate.unsqueeze(-1) * self.value_embedding(tokens).view_as(v)
        q = _norm(_rotate(q, cos, sin), config.rms_norm_eps).transpose(1, 2)
        k = _norm(_rotate(k, cos, sin), config.rms_norm_eps).transpose(1, 2)
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        grouped = q.shape[1] != k.shape[1]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=masks[self.window], scale=self.scale, enable_gqa=grouped)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class NanoChatWorkflowMLP(nn.Module):
    """relu² between two products."""

    def __init__(self, config: NanoChatWorkflowConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, T, width) from the same."""
        return self.fc2(F.relu(self.fc1(x)).square())


class NanoChatWorkflowLayer(nn.Module):
    """Attention and MLP, each on the normalised residual stream."""

    def __init__(self, config: NanoChatWorkflowConfig, layer: int) -> None:
        super().__init__()
        self.epsilon = config.rms_norm_eps
        self.self_attn = NanoChatWorkflowAttention(config, layer)
        self.mlp = NanoChatWorkflowMLP(config)

    def forward(
        self, x: Tensor, tokens: Tensor, cos: Tensor, sin: Tensor, masks: dict[int, Tensor], cache: Cache | None
    ) -> Tensor:
        """As in `NanoChatWorkflowAttention`."""
        x = x + self.self_attn(_norm(x, self.epsilon), tokens, cos, sin, masks, cache)
        return x + self.mlp(_norm(x, self.epsilon))


class NanoChatWorkflowPreTrainedModel(PreTrainedModel):
    """What both models share."""

    config_class = NanoChatWorkflowConfig
    base_model_prefix = "model"
    _no_split_modules = ("NanoChatWorkflowLayer",)
    _skip_keys_device_placement = ("past_key_values",)
    _supports_sdpa = True


class NanoChatWorkflowModel(NanoChatWorkflowPreTrainedModel):
    """Everything but the head."""

    def __init__(self, config: NanoChatWorkflowConfig) -> None:
        super().__init__(config)
        depth = config.num_hidden_layers
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(NanoChatWorkflowLayer(config, layer) for layer in range(depth))
        self.residual_scales = nn.Parameter(torch.ones(depth))
        self.x0_scales = nn.Parameter(torch.zeros(depth))
        self.smear_gate = nn.Linear(config.smear_channels, 1, bias=False)
        self.smear_scale = nn.Parameter(torch.zeros(1))
        self.backout_scale = nn.Parameter(torch.zeros(1))
        self.post_init()

    def _embed(self, tokens: Tensor, memory: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Normalised embeddings with smear: of the token before, where there is one and it is no padding."""
        length, past = tokens.shape[1], memory.shape[1] - tokens.shape[1]
        # The last known token, or at the beginning of a row any one, which then does not count.
        first = memory[:, past - 1 : past] if past else tokens[:, :1]
        both = _norm(self.embed_tokens(torch.cat((first, tokens), dim=1)), self.config.rms_norm_eps)
        before, x = both[:, :-1], both[:, 1:]
        share = self.smear_scale * torch.sigmoid(self.smear_gate(x[..., : self.config.smear_channels]))
        present = torch.ones_like(tokens, dtype=torch.bool)
        if attention_mask is not None:
            present[:, 1:] = attention_mask[:, past : past + length - 1] != 0
        present[:, 0] = False if not past else True if attention_mask is None else attention_mask[:, past - 1] != 0
        return x + share * before * present.unsqueeze(-1)

    def _angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        half = self.config.head_dim // 2
        # Single precision would be off by more than rounding at the far end of a long context; not all devices have it.
        exact = torch.float32 if positions.device.type == "mps" else torch.float64
        frequencies = self.config.rope_theta ** (-torch.arange(half, dtype=exact, device=positions.device) / half)
        angles = (positions.to(exact).unsqueeze(-1) * frequencies).unsqueeze(2)
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        return torch.cat((cos, cos), dim=-1), torch.cat((sin, -sin), dim=-1)

    def _masks(self, length: int, keys: int, attention_mask: Tensor | None, device: torch.device) -> dict[int, Tensor]:
        queries = torch.arange(keys - length, keys, device=device)
        distance = queries[:, None] - torch.arange(keys, device=device)
        masks = {}
        for window in set(self.config.attention_windows):
            seen = ((distance >= 0) & (distance < window))[None, None]
            if attention_mask is not None:
                # Padding sees itself: a softmax over nothing is not a number.
                seen = seen & ((attention_mask[:, None, None, :] != 0) | (distance == 0))
            masks[window] = seen
        return masks

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Normalised last hidden states.

        Args:
            input_ids: (batch, T) tokens that continue the cached rows.
            attention_mask: (batch, keys), 0 for padding, of the cached tokens and these.
            position_ids: (batch, T); None counts on from the cache.
            past_key_values: a cache that grows (`DynamicCache`).
            inputs_embeds: not possible, since value embeddings look tokens up in every other layer.
            use_cache: whether to return a cache.
            output_hidden_states: whether to return the residual stream before each layer, and the last hidden states.
            kwargs: what transformers hands to every model; not used.

        Raises:
            ValueError: if `input_ids` is missing, or the mask or cache is of a kind this model has no use for.
        """
        if input_ids is None or inputs_embeds is not None:
            raise ValueError(
                "input_ids is missing: this model looks tokens up in several layers, pass no inputs_embeds"
            )
        use_cache = (self.config.use_cache and not self.training) if use_cache is None else use_cache
        cache = past_key_values if past_key_values is not None or not use_cache else DynamicCache()
        if cache is not None and getattr(cache, "is_compileable", False):
            raise ValueError(f"past_key_values is a {type(cache).__name__}, expected one that grows: DynamicCache")
        length, depth = input_ids.shape[1], self.config.num_hidden_layers
        memory = input_ids if cache is None else _remember(cache, depth, input_ids)
        keys = memory.shape[1]
        if attention_mask is not None and attention_mask.shape != memory.shape:
            raise ValueError(
                f"attention_mask has the shape {tuple(attention_mask.shape)}, expected {tuple(memory.shape)}: "
                "a number for each token, those in the cache included"
            )
        if position_ids is None:
            position_ids = torch.arange(keys - length, keys, device=input_ids.device).unsqueeze(0)
        x = x0 = middle = self._embed(input_ids, memory, attention_mask)
        cos, sin = self._angles(position_ids, x.dtype)
        masks = self._masks(length, keys, attention_mask, input_ids.device)
        states = []
        for layer, block in enumerate(self.layers):
            states.append(x)
            x = self.residual_scales[layer] * x + self.x0_scales[layer] * x0
            x = block(x, input_ids, cos, sin, masks, cache)
            if layer == self.config.backout_layer:
                middle = x
        x = _norm(x - self.backout_scale * middle, self.config.rms_norm_eps)
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=cache if use_cache else None,
            hidden_states=(*states, x) if output_hidden_states else None,
        )


class NanoChatWorkflowForCausalLM(NanoChatWorkflowPreTrainedModel, GenerationMixin):
    """The language model."""

    def __init__(self, config: NanoChatWorkflowConfig) -> None:
        super().__init__(config)
        self.model = NanoChatWorkflowModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits of the next token, (batch, T, vocab_size) float32.

        Args:
            input_ids: (batch, T).
            labels: (batch, T), -100 where ignored; adds the mean loss of predicting each from what is before it.
            logits_to_keep: only of the last so many positions, or of these; 0: of all.
            return_dict: False returns a tuple.
            kwargs: as in `NanoChatWorkflowModel.forward`.
        """
        outputs = self.model(input_ids, **kwargs)
        x = outputs.last_hidden_state
        x = x[:, slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep]
        softcap = self.config.final_logit_softcapping
        logits = softcap * torch.tanh(self.lm_head(x).float() / softcap)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size)
        result = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )
        return result.to_tuple() if return_dict is False else result
