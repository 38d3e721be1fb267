"""A Qwen2 of a few thousand random weights."""

from typing import Any

from transformers import Qwen2Config, Qwen2ForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def tiny_qwen2(**changes: Any) -> Qwen2ForCausalLM:
    """The model in evaluation mode; `changes` go into its configuration."""
    return Qwen2ForCausalLM(Qwen2Config(**SIZES | changes)).eval()
