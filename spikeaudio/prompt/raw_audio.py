"""What the model hears, before it is made into tokens: samples at 16 kHz."""

from typing import Any

from transformers import Wav2Vec2FeatureExtractor

SAMPLING_RATE = 16000  # Hz


def raw_audio_extractor(stored: dict[str, Any] | None = None) -> Wav2Vec2FeatureExtractor:
    """A feature extractor whose features are the samples: 16 kHz, as they are, padded on the left like prompts."""
    if stored:
        return Wav2Vec2FeatureExtractor.from_dict(stored)
    return Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLING_RATE, do_normalize=False, return_attention_mask=True, padding_side="left"
    )
