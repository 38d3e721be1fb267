"""A checkpoint folder and what may be wrong with it.

    folder/                  the language model and the processor (config.json, model.safetensors, tokenizer.json, ...)
    folder/speech_tokenizer/ wav -> codes and features; needed to hear
    folder/detokenizer/      codes -> mel
    folder/vocoder/          mel -> wav; both needed to speak

A checkpoint is named by its folder, by a name that ships with the package ("spikeaudio-tiny"), or by an id "org/name"
on the Hugging Face hub. A folder on this machine wins over everything else.

Each of the four loads alone. Loading one here turns the many ways in which a file can be broken into one sentence.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SPEECH_TOKENIZER = "speech_tokenizer"
DETOKENIZER = "detokenizer"
VOCODER = "vocoder"

_PACKAGE = Path(__file__).resolve().parent

Part = TypeVar("Part")


@dataclass(frozen=True)
class HubOptions:
    """How the hub is asked.

    Attributes:
        revision: branch, tag or commit; None: the main branch.
        cache_dir: folder of the cache; None: the user's.
        token: token of the user; True: the stored one.
        local_files_only: look in the cache alone.
        force_download: fetch again what is in the cache.
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False


def shipped_checkpoints() -> dict[str, Path]:
    """Folders of the checkpoints that came with this package, by name.

    Example:
        >>> from spikeaudio.checkpoint import shipped_checkpoints
        >>> "spikeaudio-tiny" in shipped_checkpoints()
        True
    """
    places = [_PACKAGE / "checkpoints", _PACKAGE.parent / "checkpoints"]  # a link may be missing where git made none
    found = (path.parent for place in reversed(places) for path in sorted(place.glob("*/config.json")))
    return {folder.name: folder for folder in found}


def find_checkpoint(name: str | Path, hub: HubOptions | None = None) -> Path:
    """The folder of a checkpoint.

    Args:
        name: a folder, the name of a shipped checkpoint, or an id "org/name" on the hub.
        hub: how the hub is asked; None: as it is by default.

    Raises:
        FileNotFoundError: there is no such folder, shipped name, or repository that can be reached.

    Example:
        >>> from spikeaudio.checkpoint import find_checkpoint
        >>> find_checkpoint("spikeaudio-tiny").name
        'spikeaudio-tiny'
    """
    path = Path(name)
    if str(name) and path.is_dir():
        return path
    shipped = shipped_checkpoints()
    if str(name) in shipped:
        return shipped[str(name)]
    if _is_hub_id(str(name)):
        return _fetch(str(name), hub or HubOptions())
    raise FileNotFoundError(
        f"no checkpoint folder at {str(name)!r}: expected a folder, a shipped name "
        f"({', '.join(sorted(shipped)) or 'none'}), or an id org/name on the Hugging Face hub"
    )


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None


def _fetch(name: str, hub: HubOptions) -> Path:
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = vars(hub)
    try:
        return Path(snapshot_download(name, **options))
    except Exception as error:  # the hub's client raises many kinds, its HTTP library's among them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"no folder {name} here, and the hub did not give {name}: {reason} "
            f"(offline? on another machine run `hf download {name} --local-dir FOLDER`, then load FOLDER)"
        ) from error


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


def refuse_unknown_keys(config: "PreTrainedConfig", keys: Mapping[str, Any], more: Iterable[str] = ()) -> None:
    """Refuse keys of a configuration that nobody knows: typing errors, mostly.

    Known are the fields of its class, `more`, and whatever transformers itself passes to a configuration or writes
    into its file: a key that a later release adds does not make our checkpoints unloadable.

    Args:
        config: the configuration that is being made.
        keys: arguments of its constructor beside its fields.
        more: names that are known beside those of the class.

    Raises:
        ValueError: a key is unknown; the message lists those that are meant, or all of our own.
    """
    from transformers import PreTrainedConfig

    known = {field.name for field in fields(config)} | set(config.attribute_map) | set(more)
    unknown = sorted(key for key in keys if key not in known | transformers_keys() and not key.startswith("_"))
    if unknown:
        inherited = {field.name for field in fields(PreTrainedConfig)}
        close = sorted({match for key in unknown for match in get_close_matches(key, known)})
        raise ValueError(
            f"unknown keys {unknown} for {type(config).__name__}; {f'close to {close}; ' if close else ''}"
            f"valid keys are {sorted(known - inherited)}"
        )


@cache
def transformers_keys() -> frozenset[str]:
    """Names that transformers itself passes to a configuration, or writes into its file.

    They stand in its code alone, under no list: attributes of the base class, arguments that its docstring names, and
    names that its methods with ``**kwargs`` look for, or its ``to_dict`` and ``to_json_string`` write.
    """
    from transformers import PreTrainedConfig

    names = {*dir(PreTrainedConfig), *vars(PreTrainedConfig()), "auto_map"}  # the last one is written for remote code
    names.update(re.findall(r"^\s+(\w+) \(`", PreTrainedConfig.__doc__ or "", re.MULTILINE))
    for kind in PreTrainedConfig.__mro__:
        for member in vars(kind).values():
            function = inspect.unwrap(getattr(member, "__func__", member))
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType) and (
                code.co_flags & inspect.CO_VARKEYWORDS or code.co_name.startswith("to_")
            ):
                names.update(_names_in(code.co_consts))
    return frozenset(names)


def _names_in(constants: Iterable[Any]) -> Iterator[str]:
    """Strings among the constants of a function that could be names."""
    for constant in constants:
        if isinstance(constant, str) and constant.isidentifier():
            yield constant
        elif isinstance(constant, tuple):
            yield from _names_in(constant)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
