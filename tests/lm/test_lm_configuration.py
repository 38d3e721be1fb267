"""SpikeAudioConfig: what it fills in, what it refuses, and that it survives a round trip."""

import pytest
from transformers import DynamicCache

from spikeaudio.lm import SpikeAudioConfig


def test_defaults_are_the_published_7b():
    config = SpikeAudioConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.num_audio_layers) == (3584, 28, 6)
    assert config.audio_token_offset + config.num_audio_codes == config.vocab_size
    assert config.rope_parameters["rope_theta"] == 1e6
    assert config.audio_delay == 6  # the published class default of 5 is wrong for the published weights


def test_a_cache_has_one_layer_per_decoder_layer(tiny_config):
    config = tiny_config()
    assert len(DynamicCache(config=config).layers) == config.num_hidden_layers + config.num_audio_layers


def test_padding_is_never_the_blank(tiny_config):
    assert tiny_config().pad_token_id == tiny_config().text_eos_token_id
    assert tiny_config().eos_token_id == tiny_config().text_eos_token_id


def test_round_trip(tiny_config, tmp_path):
    config = tiny_config(think_end_token_id=49, rope_theta=5000.0, dtype="bfloat16")
    config.save_pretrained(tmp_path)
    assert SpikeAudioConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    assert config.rope_parameters["rope_theta"] == 5000.0


def test_unknown_keys_list_the_valid_ones(tiny_config):
    with pytest.raises(ValueError, match=r"unknown keys \['audio_dealy', 'temperature'\]") as error:
        tiny_config(audio_dealy=3, temperature=1.0)
    assert "audio_delay" in str(error.value)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"audio_branch_layer": 3}, "expected 0 to 2 .* got 3"),
        ({"audio_branch_layer": -1}, "got -1"),
        ({"num_audio_layers": 0}, "num_audio_layers must be at least 1, got 0"),
        ({"audio_delay": -1}, "audio_delay must not be negative"),
        ({"num_audio_codes": 31}, "ids 50 to 80 .* vocab_size is 80"),
        ({"msg_end_token_id": 50}, "msg_end_token_id must be below audio_token_offset"),
        ({"num_text_tokens": 51}, r"num_text_tokens must lie in \[1, 50\].* got 51"),
        ({"num_text_tokens": 0}, "got 0"),
        ({"think_end_token_id": 70}, "think_end_token_id must be below"),
        ({"use_sliding_window": True}, "use_sliding_window"),
    ],
)
def test_ranges(tiny_config, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)
