"""What of a recording a model is let hear: without the quiet that it was not trained on, and not too long."""

from torch import Tensor

from spikeaudio.audio.segmentation import without_quiet
from spikeaudio.prompt.raw_audio import SAMPLING_RATE


def sounding(wav: Tensor, speech: bool, longest_pause: float | None, longest_seconds: float | None) -> Tensor:
    """What sounds in a recording.

    Args:
        wav: (N,) float32 at 16 kHz, N >= 1.
        speech: whether it is speech, whose pauses do not matter; else only quiet at its ends is left out.
        longest_pause: longest quiet, in seconds, that stays; None: the recording stays as it is.
        longest_seconds: longest result; None: any.

    Returns:
        (n,) float32, n >= 1.

    Raises:
        ValueError: nothing sounds, or the result is too long.

    >>> import torch
    >>> tone = torch.sin(torch.arange(16000) * 0.1)
    >>> late = torch.cat([torch.zeros(48000), tone])
    >>> sounding(late, speech=True, longest_pause=0.3, longest_seconds=None).numel() < 20000
    True
    """
    if longest_pause is not None:
        wav = without_quiet(wav, SAMPLING_RATE, longest_pause, inside=speech)
        if not wav.numel():
            raise ValueError("the recording is silent: expected one in which something can be heard")
    seconds = wav.numel() / SAMPLING_RATE
    if longest_seconds is not None and seconds > longest_seconds:
        raise ValueError(
            f"the recording has {seconds:.1f} seconds of sound, but this model takes at most {longest_seconds:g} "
            "in a message: give a shorter one (SpikeAudio.transcribe takes any length)"
        )
    return wav
