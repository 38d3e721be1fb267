"""Which model it was: a digest over the files of a checkpoint."""

from pathlib import Path

from eval.digest import digest, file_digest

_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".json", ".txt", ".model", ".jinja"})


def model_folder(model: str) -> Path:
    """Folder of a checkpoint: itself, or what the Hub's cache holds of an id.

    Raises:
        FileNotFoundError: neither is there.
    """
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model))
    except Exception as error:  # offline, unknown, gated: huggingface_hub has a type for each
        raise FileNotFoundError(f"no checkpoint at {model}, neither a folder nor a model of the Hub") from error


def checkpoint_digest(folder: Path) -> str:
    """Hex digest over weights, configurations and vocabularies, by name within the folder.

    Raises:
        FileNotFoundError: there is no such file in it.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    if not files:
        raise FileNotFoundError(f"no checkpoint at {folder}: it holds no weights and no configuration")
    return digest([[file.relative_to(folder).as_posix(), file_digest(file)] for file in files])
