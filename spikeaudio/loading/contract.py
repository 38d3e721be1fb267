"""What the parts of a checkpoint must agree on; checked once, where they are joined.

Codebook size, width of the continuous features, special ids, sampling rate: a mismatch would give noise, not an error.
(What the detokenizer and the vocoder must agree on, `SpeechDecoder` checks.)
"""

from typing import Any

from spikeaudio.lm.feature_encoder import FeatureInputs
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.prompt.conversation import layout_of
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder


def check_parts(
    model: SpikeAudioForConditionalGeneration, processor: SpikeAudioProcessor, decoder: SpeechDecoder | None
) -> None:
    """Check a language model against the parts around it.

    Args:
        model: gives the sizes that the others must have.
        processor: its prompts' layout, its two tokenizers.
        decoder: its code vocabulary and sampling rate; None: not there.

    Raises:
        ValueError: two values that must be equal are not.
    """
    config = model.config
    pairs: list[tuple[str, Any, str, Any]] = [
        ("the processor's layout", processor.layout, "layout", layout_of(config)),
    ]
    if len(processor.tokenizer) > config.audio_token_offset:
        raise ValueError(
            f"the text tokenizer has {len(processor.tokenizer)} ids, "
            f"but the model's audio codes begin at {config.audio_token_offset}"
        )
    if processor.hears:
        encoder = processor.speech_tokenizer.encoder.config
        pairs.append(
            ("codes of speech_tokenizer/", encoder.quantize_vocab_size, "num_audio_codes", config.num_audio_codes)
        )
        if config.audio_encoder_config is None:
            pairs.append(
                ("features of speech_tokenizer/", encoder.d_model, "audio_feature_dim", config.audio_feature_dim)
            )
        wanted = FeatureInputs.of(config.audio_encoder_config)
        pairs.append(("the processor's feature_encoder", processor.feature_encoder, "audio_encoder_config", wanted))
    if decoder is not None:
        pairs += [
            ("codes of detokenizer/", decoder.num_codes, "num_audio_codes", config.num_audio_codes),
            ("Hz of vocoder/", decoder.sampling_rate, "sampling_rate", config.sampling_rate),
        ]
    for name, value, other, expected in pairs:
        if value != expected:
            raise ValueError(
                f"the parts of the checkpoint do not fit: {name} is {value}, but the model's {other} is {expected}"
            )
