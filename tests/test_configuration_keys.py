"""Keys of a configuration: what transformers writes is never refused, what nobody knows always."""

from pathlib import Path

import pytest
from transformers import PreTrainedConfig

from spikeaudio.checkpoint import transformers_keys
from spikeaudio.detokenizer.configuration import DetokenizerConfig
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.vocoder.configuration import BigVGANConfig, VocosConfig

CONFIGS = [SpikeAudioConfig, DetokenizerConfig, WhisperVQConfig, VocosConfig, BigVGANConfig]
SIZES = {WhisperVQConfig: {"encoder_layers": 16}}  # transformers' defaults are too small for ours
PASSED = {
    "torch_dtype": "float32",
    "attn_implementation": "eager",
    "experts_implementation": None,
    "output_attentions": False,
    "num_labels": 2,
    "name_or_path": "here",
    "auto_map": {"AutoConfig": "file.Class"},
    "quantization_config": {"quant_method": "gif"},
    "transformers_version": "5.16.0",
    "tie_last_hidden_states": False,
    "_commit_hash": "0",
    "_a_key_of_a_later_release": 1,
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_transformers_keys_pass(kind: type[PreTrainedConfig], tmp_path: Path) -> None:
    sizes = SIZES.get(kind, {})
    kind(**PASSED, **sizes)
    for key, value in PreTrainedConfig().to_dict().items():
        if key != "model_type":
            kind(**{key: value}, **sizes)
    stored = kind(**sizes)
    stored.save_pretrained(tmp_path)
    again = kind.from_pretrained(tmp_path, attn_implementation="eager")
    assert again.to_dict() | {"_name_or_path": ""} == stored.to_dict() | {"_name_or_path": ""}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_key_that_a_later_release_takes_passes(kind: type[PreTrainedConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own code is asked, no list."""
    sizes = SIZES.get(kind, {})

    def later(self: PreTrainedConfig, **kwargs: object) -> None:
        kwargs.pop("speculative_heads", None)

    with pytest.raises(ValueError, match="speculative_heads"):
        kind(speculative_heads=2, **sizes)
    with monkeypatch.context() as patched:
        patched.setattr(PreTrainedConfig, "of_a_later_release", later, raising=False)
        transformers_keys.cache_clear()
        kind(speculative_heads=2, **sizes)
    transformers_keys.cache_clear()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("key", ["hiden_size", "temperature", "audio_dealy", "cfg_scal", "num_head"])
def test_what_nobody_knows_is_refused(kind: type[PreTrainedConfig], key: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown keys \['{key}'\] for {kind.__name__}.*valid keys are \["):
        kind(**{key: 1})
