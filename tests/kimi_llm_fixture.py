"""The fixture ``kimi_llm_tiny``: the published code's tiny model, its prompts and its records, in our names."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from spikeaudio.lm import LegalTokens, SpikeAudioConfig, SpikeAudioForConditionalGeneration

RENAMED = {
    "model.mimo_layers.": "model.audio_layers.",
    "model.mimo_norm.": "model.audio_norm.",
    "mimo_output.": "audio_head.",
    "model.vq_adaptor.layers.0.": "model.feature_adaptor.in_proj.",
    "model.vq_adaptor.layers.3.": "model.feature_adaptor.out_proj.",
    "model.vq_adaptor.layers.4.": "model.feature_adaptor.norm.",
}
SAME_NAME = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads hidden_act "
    "initializer_range rms_norm_eps rope_theta max_position_embeddings"
).split()


def our_name(key: str) -> str:
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def our_config(theirs: dict, special: dict) -> SpikeAudioConfig:
    return SpikeAudioConfig(
        **{name: theirs[name] for name in SAME_NAME},
        prompt_format="kimi",
        num_text_tokens=theirs["num_base_tokens"],
        num_audio_layers=theirs["kimia_mimo_layers"],
        audio_branch_layer=theirs["kimia_mimo_transformer_from_layer_index"],
        audio_delay=theirs["kimia_mimo_audiodelaytokens"],
        audio_token_offset=theirs["kimia_token_offset"],
        num_audio_codes=theirs["vocab_size"] - theirs["kimia_token_offset"],
        audio_feature_dim=theirs["kimia_adaptor_input_dim"],
        pad_token_id=special["pad"],
        blank_token_id=special["kimia_text_blank"],
        text_eos_token_id=special["kimia_text_eos"],
        media_begin_token_id=special["media_begin"],
        media_end_token_id=special["media_end"],
        msg_end_token_id=special["msg_end"],
        user_start_token_id=special["kimia_user_msg_start"],
        assistant_start_token_id=special["kimia_assistant_msg_start"],
        speech_text_token_id=special["kimia_speech_ct_id"],
        speech_both_token_id=special["kimia_speech_ctd_id"],
    )


class KimiFixture:
    """Config, weights, inputs and records; sizes and ids come from its files."""

    def __init__(self, folder: Path) -> None:
        self.record = json.loads((folder / "fixture.json").read_text())
        self.tensors = load_file(folder / "fixture.safetensors")
        self.config = our_config(json.loads((folder / "config.json").read_text()), self.record["special_tokens"])
        self.weights = {our_name(k): v for k, v in load_file(folder / "model.safetensors").items()}

    def model(self, attention: str = "sdpa", **changes) -> SpikeAudioForConditionalGeneration:
        config = SpikeAudioConfig(**{**self.config.to_dict(), **changes})
        model = SpikeAudioForConditionalGeneration._from_config(config, attn_implementation=attention)
        model.load_state_dict(self.weights)
        return model.eval()

    def inputs(self, scenario: str) -> dict[str, Tensor]:
        """What the scenario's tensors say, in our terms; several segments become one row of features."""
        names = {"text_input_ids": "input_ids", "is_continuous_mask": "audio_feature_mask"}
        inputs = {}
        for name in ("text_input_ids", "audio_input_ids", "is_continuous_mask", "attention_mask"):
            if f"{scenario}.{name}" in self.tensors:
                inputs[names.get(name, name)] = self.tensors[f"{scenario}.{name}"]
        key = f"{scenario}.whisper_input_feature"
        segments = sorted((k for k in self.tensors if k == key or k.startswith(key + ".")), key=lambda k: (len(k), k))
        if segments:
            inputs["audio_features"] = torch.cat([self.tensors[k] for k in segments], dim=1)
        return inputs

    @property
    def scenarios(self) -> list[str]:
        """Names of the groups that hold logits of one forward."""
        end = ".lm_head_logits"
        return sorted(k.removesuffix(end) for k in self.tensors if k.endswith(end) and not k.startswith("gen."))


def everything(config: SpikeAudioConfig) -> LegalTokens:
    """No range mask: the published heads may choose any id of either stream."""
    mask = torch.ones(config.vocab_size, dtype=torch.bool)
    return LegalTokens(text=mask, audio=mask)


def generate(model, fixture: KimiFixture, record: dict, **kwargs):
    """Run a record of the fixture: the output, and the new ids of the first row's text and audio stream."""
    inputs = fixture.inputs(record["prompt"])
    sampler = {name.replace("_window_size", "_window"): value for name, value in record.get("sampler", {}).items()}
    length = inputs["input_ids"].shape[1]
    settings = {
        "generation_mode": "audio" if record["output_type"] == "both" else "text",
        "max_new_tokens": record["max_new_tokens"],
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    out = model.generate(**inputs, **{**settings, **sampler, **kwargs})
    return out, out.sequences[0, length:].tolist(), out.audio_sequences[0, length:].tolist()
