"""Keywords of transformers' processors that can have one value here: anything else is refused, not passed over."""

from collections.abc import Sequence
from typing import Any

from spikeaudio.prompt.layout import AnswerMode

_MODES: dict[str, AnswerMode] = {"text": "text", "audio": "audio", "both": "audio"}
_ONLY: dict[str, tuple[Any, str]] = {
    "images": (None, "this model takes text and audio, got images"),
    "videos": (None, "this model takes text and audio, got videos"),
    "return_tensors": ("pt", "return_tensors must be 'pt'"),
    "padding": (True, "padding must be True: the rows of a batch have one length"),
    "tokenize": (True, "tokenize must be True: a prompt is two streams and has no text form"),
    "return_dict": (True, "return_dict must be True: a prompt is two streams"),
    "continue_final_message": (
        False,
        "continue_final_message must be False: an answer is generated or learned as a whole",
    ),
}


def refuse_keywords(given: dict[str, Any]) -> None:
    """Say no to keywords that cannot be honoured.

    Args:
        given: images and videos (None), return_tensors ("pt"), padding, tokenize and return_dict (True),
            continue_final_message (False); None stands for the only value.

    Raises:
        ValueError: another keyword, or another value.
    """
    if unknown := sorted(set(given) - set(_ONLY)):
        raise ValueError(f"unknown keywords {unknown}")
    for name, value in given.items():
        only, message = _ONLY[name]
        value = getattr(value, "value", value)  # transformers' TensorType.PYTORCH is "pt"; "longest" is padding, too
        if value is not None and value != only and (name, value) != ("padding", "longest"):
            raise ValueError(f"{message}, got {value!r}" if isinstance(value, str | bool) else message)


def answer_mode(output_modalities: str | Sequence[str]) -> AnswerMode:
    """ "text" or "audio", from what transformers ("audio", or a list) and Kimi-Audio ("both") call a spoken answer.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(output_modalities, list | tuple):
        output_modalities = "both" if "audio" in output_modalities else "text"
    if output_modalities not in _MODES:
        raise ValueError(f"output_modalities must be 'text', 'audio' or 'both', got {output_modalities!r}")
    return _MODES[str(output_modalities)]
