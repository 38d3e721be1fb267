"""A checkpoint folder and what may be wrong with it.

    folder/                  the language model and the processor (config.json, model.safetensors, tokenizer.json, ...)
    folder/speech_tokenizer/ wav -> codes and features; needed to hear
    folder/detokenizer/      codes -> mel
    folder/vocoder/          mel -> wav; both needed to speak

Each of the four loads alone. Loading one here turns the many ways in which a file can be broken into one sentence.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

SPEECH_TOKENIZER = "speech_tokenizer"
DETOKENIZER = "detokenizer"
VOCODER = "vocoder"

Part = TypeVar("Part")


def checkpoint_folder(folder: str | Path) -> Path:
    """`folder` as a path, if a checkpoint can lie there.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no ``config.json``.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint folder at {path}")
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} is not a checkpoint: it has no config.json")
    return path


def missing_parts(folder: str | Path, *parts: str) -> list[str]:
    """Those of `parts` that `folder` has no sub-folder with a ``config.json`` for."""
    return [part for part in parts if not (Path(folder) / part / "config.json").is_file()]


def load_part(load: Callable[[Path], Part], folder: Path) -> Part:
    """``load(folder)``, with one sentence for what is wrong with the files.

    Raises:
        ValueError: a weight file is truncated or missing, a JSON file is broken, a configuration is not valid.
    """
    try:
        return load(folder)
    except SafetensorError as error:
        raise ValueError(f"the weights in {folder} are damaged or cut short (safetensors: {error})") from error
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder} cannot be loaded: {_first_line(error)}") from error
    except RuntimeError as error:
        raise ValueError(f"the weights in {folder} do not fit its config.json: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
