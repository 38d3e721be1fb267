"""A recording of a voice, as what a decoder speaks with."""

import logging

from torch import Tensor

from spikeaudio.audio.samples import resample
from spikeaudio.audio.segmentation import loudest
from spikeaudio.prompt.raw_audio import SAMPLING_RATE
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer

logger = logging.getLogger(__name__)


def voice_of(wav: Tensor, decoder: SpeechDecoder, tokenizer: SpeechTokenizer) -> VoicePrompt:
    """The voice of a recording of any length.

    A decoder takes a few seconds of it (`SpeechDecoder.max_voice_seconds`). Of a longer recording it takes the part
    in which the most is said, and a warning names that part.

    Args:
        wav: (N,) float32 at the decoder's rate, N >= 1.
        decoder: decoder that is to speak.
        tokenizer: speech tokenizer whose codes the decoder knows.

    Raises:
        ValueError: shorter than a code (80 ms).
    """
    rate, longest = decoder.sampling_rate, decoder.max_voice_seconds
    if wav.numel() > longest * rate:
        span = loudest(wav, rate, longest)
        logger.warning(
            "the recording of the voice has %.1f seconds, of which seconds %.1f to %.1f are used: this model takes %g",
            wav.numel() / rate,
            span.first / rate,
            span.last / rate,
            longest,
        )
        wav = wav[span.first : span.last]
    return decoder.voice(wav, tokenizer.encode([resample(wav, rate, SAMPLING_RATE)])[0].codes)
