"""Published weight files as lazy tensors: memory-mapped, so that only what is used is read.

The two ``model.pt`` are pickles. They are read by PyTorch's restricted unpickler (``weights_only``), which builds
tensors and plain containers and refuses anything else; no other place of this package reads pickles.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from spikeaudio.loading.kimi.folder import read_json
from spikeaudio.loading.kimi.weight_names import listed

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_NETWORK = "speech_model."


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of ``model.safetensors``, or of the shards that its index names, whatever these are called.

    Raises:
        FileNotFoundError: no weights, or a shard is missing.
        ValueError: a file is cut short, or a shard does not hold what the index says.
    """
    if not (folder / _INDEX).is_file():
        if not (folder / _SINGLE).is_file():
            raise FileNotFoundError(f"{folder} is not complete: it has neither {_INDEX} nor {_SINGLE}")
        return _read_shard(folder / _SINGLE)
    index = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(index, dict):
        raise ValueError(f"{folder / _INDEX} has no weight_map")
    shards = sorted(set(index.values()))
    if absent := [name for name in shards if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{folder} is not complete: of {len(shards)} shards it has no {listed(absent)}")
    weights: dict[str, Tensor] = {}
    for shard in shards:
        held, named = _read_shard(folder / shard), {name for name, file in index.items() if file == shard}
        if difference := held.keys() ^ named:
            raise ValueError(f"{folder / shard} does not hold what {_INDEX} says: {listed(difference)}")
        weights |= held
    return weights


def read_pickle(path: Path, key: str) -> dict[str, Tensor]:
    """The tensors under `key` of a ``torch.save``d dict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is cut short, holds anything but tensors and plain containers, or has no such tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not complete: it has no {path.name}")
    try:
        loaded: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, which could run code when it is read: refused ({_reason(error)})"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged, cut short or no file of torch.save ({_reason(error)})") from error
    weights = loaded.get(key) if isinstance(loaded, dict) else None
    if not isinstance(weights, dict):
        raise ValueError(f"{path} must hold a dict with weights under {key!r}, got {_contents(loaded)}")
    if other := [str(name) for name, value in weights.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{path} must hold tensors alone under {key!r}, but these are none: {listed(other)}")
    return weights


def detokenizer_weights(path: Path) -> dict[str, Tensor]:
    """Those of ``audio_detokenizer/model.pt`` that inference needs; most of that file is left over from training.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `read_pickle`; or none of its weights is the network's.
    """
    everything = read_pickle(path, "state_dict")
    weights = {name.replace(_NETWORK, "", 1): tensor for name, tensor in everything.items() if _NETWORK in name}
    if not weights:
        raise ValueError(f"{path} holds no weights of the network: no name contains {_NETWORK!r}")
    return weights


def vocoder_weights(path: Path) -> dict[str, Tensor]:
    """Those of ``vocoder/model.pt``, as pairs of weight norm. Raises as `read_pickle`."""
    return read_pickle(path, "generator")


def _read_shard(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short (safetensors: {_reason(error)})") from error


def _contents(loaded: Any) -> str:
    return f"the keys {listed(map(str, loaded))}" if isinstance(loaded, dict) else type(loaded).__name__


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
