"""What lies where in a download of Kimi-Audio.

    folder/                        config.json, model.safetensors.index.json and its shards, tiktoken.model
    folder/whisper-large-v3/       encoder of the continuous features (and a decoder, which nobody needs)
    folder/audio_detokenizer/      config.yaml, model.pt: codes -> mel
    folder/vocoder/                config.json, model.pt: mel -> wav

The speech tokenizer is published apart, as GLM-4-Voice's; it is looked for inside the folder and beside it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeaudio.checkpoint import checkpoint_folder

SPEECH_TOKENIZER_FOLDERS = ("speech_tokenizer", "glm-4-voice-tokenizer")
_HOW_TO_GET_IT = "get it with `hf download zai-org/glm-4-voice-tokenizer --local-dir {where}`, or say where it lies"


def is_published(folder: str | Path) -> bool:
    """Whether `folder` holds Kimi-Audio as published: its config.json has keys ``kimia_...``."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        return False
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False  # whoever loads it says what is wrong
    return isinstance(keys, dict) and any(key.startswith("kimia_") for key in keys)


@dataclass(frozen=True)
class PublishedFolder:
    """A download.

    Args:
        root: its folder.
        speech_tokenizer: folder of the GLM-4-Voice tokenizer; None: look inside `root` and beside it.

    Raises:
        FileNotFoundError: no config.json in `root`, or none in a given `speech_tokenizer`.
        ValueError: the config.json is not Kimi-Audio's.
    """

    root: Path
    speech_tokenizer: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", checkpoint_folder(self.root))
        if not is_published(self.root):
            raise ValueError(f"{self.root} is not Kimi-Audio as published: its config.json has no kimia_* keys")
        given = self.speech_tokenizer
        if given is not None and not (Path(given) / "config.json").is_file():
            raise FileNotFoundError(f"no speech tokenizer at {given}: it has no config.json; {self.how_to_hear}")
        if given is None:
            places = (place / name for place in (self.root, self.root.parent) for name in SPEECH_TOKENIZER_FOLDERS)
            given = next((place for place in places if (place / "config.json").is_file()), None)
        object.__setattr__(self, "speech_tokenizer", None if given is None else Path(given))

    @property
    def how_to_hear(self) -> str:
        """What to do about a missing speech tokenizer."""
        return _HOW_TO_GET_IT.format(where=self.root / SPEECH_TOKENIZER_FOLDERS[1])

    @property
    def encoder(self) -> Path:
        """Folder of the Whisper encoder."""
        return self.root / "whisper-large-v3"

    @property
    def detokenizer(self) -> Path:
        """Folder of the detokenizer."""
        return self.root / "audio_detokenizer"

    @property
    def vocoder(self) -> Path:
        """Folder of the vocoder."""
        return self.root / "vocoder"

    @property
    def vocabulary(self) -> Path:
        """The text vocabulary."""
        return self.root / "tiktoken.model"

    def missing_to_speak(self) -> list[str]:
        """Names of the sub-folders that speech needs and that are not there."""
        parts = {self.detokenizer: "config.yaml", self.vocoder: "config.json"}
        return [part.name for part, config in parts.items() if not (part / config).is_file()]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON, or no object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not complete: it has no {path.name}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value
