"""The checkpoint that a command works with."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikeaudio.pipeline import SpikeAudio

DTYPES = ("float32", "bfloat16", "float16", "auto")


def load(model: Path, device: str | None = None, dtype: str | None = None) -> "SpikeAudio":
    """Load a checkpoint without progress bars.

    Args:
        model: folder, shipped name or hub id.
        device: device to run on; None: the CPU.
        dtype: one of `DTYPES`; None: float32.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: a damaged checkpoint, or an unknown device or dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"--dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    from spikeaudio.cli.startup import import_light

    import_light()
    import torch
    from transformers.utils import logging

    from spikeaudio.pipeline import SpikeAudio

    try:
        place = None if device is None else torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"--device must be a device such as cpu or cuda:0, got {device!r}") from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    kind = "auto" if dtype == "auto" else None if dtype is None else getattr(torch, dtype)
    try:
        return SpikeAudio.from_pretrained(model, device=place, dtype=kind)
    except (AssertionError, RuntimeError) as error:  # torch's ways to say that a device is not there
        raise ValueError(f"cannot run on --device {device}: {str(error).splitlines()[0]}") from error
