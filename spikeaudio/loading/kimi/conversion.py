"""A download of Kimi-Audio becomes a checkpoint of our own layout, in safetensors.

    folder/  whisper-large-v3/  ->  folder/                    language model with its encoder, text tokenizer
    GLM-4-Voice tokenizer       ->  folder/speech_tokenizer/
    audio_detokenizer/          ->  folder/detokenizer/        without what training left in the file
    vocoder/                    ->  folder/vocoder/            weight norm folded

The weights stay on disk until their shard is written, so memory holds about one shard. Everything is kept in a work
folder beside the destination until it is whole, each file under its name only when it is complete: the same command,
given again after a kill, goes on behind the last finished file.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from spikeaudio.checkpoint import DETOKENIZER, SPEECH_TOKENIZER, VOCODER
from spikeaudio.detokenizer.modeling import FlowMatchingDetokenizer
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.loading.kimi import reader, weight_names
from spikeaudio.loading.kimi.configuration import detokenizer_config, speech_tokenizer_config, vocoder_config
from spikeaudio.loading.kimi.folder import PublishedFolder
from spikeaudio.loading.kimi.weight_names import WeightNames
from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder
from spikeaudio.vocoder.bigvgan import BigVGAN

SHARD_BYTES = 2 * 10**9
_SETTINGS = "conversion.json"
_DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class _Part:
    """One model of the checkpoint: its weights are those of ``model_class(config)``."""

    folder: str
    model_class: type[PreTrainedModel]
    config: Any
    weights: Mapping[str, Tensor]
    names: WeightNames
    source: Path


def convert(
    source: str | Path,
    destination: str | Path,
    speech_tokenizer: str | Path | None = None,
    dtype: str = "auto",
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write `source` in our layout.

    Args:
        source: the download; it is not changed.
        destination: folder of the new checkpoint; must not exist.
        speech_tokenizer: folder of the GLM-4-Voice tokenizer; None: inside of `source` or beside it.
        dtype: type of the written weights: "float32", "bfloat16", "float16", or "auto" for the published one of each
            part. The speech tokenizer keeps its own: another one changes codes.
        shard_bytes: largest file of weights.

    Returns:
        `destination`.

    Raises:
        FileExistsError: there is something at `destination`.
        FileNotFoundError: a file of the download is missing, or there is no speech tokenizer.
        ValueError: a file is damaged, weights are missing or left over, `dtype` is unknown, `destination` lies in
            `source`, or its work folder is of another conversion.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    published = PublishedFolder(Path(source), None if speech_tokenizer is None else Path(speech_tokenizer))
    destination = Path(destination)
    if destination.exists():
        raise FileExistsError(f"{destination} exists already: give a new folder, or delete it")
    if published.root.resolve() in destination.resolve().parents:
        raise ValueError(f"{destination} lies in the download {published.root}: give a folder beside it")
    if published.speech_tokenizer is None:
        raise FileNotFoundError(f"{published.root} holds no speech tokenizer: {published.how_to_hear}")
    work = destination.with_name(f"{destination.name}.work")
    _claim(work, {"source": str(published.root.resolve()), "dtype": dtype, "shard_bytes": shard_bytes})
    for part in _parts(published):
        reader.check_weights(part.model_class, part.config, part.weights, part.names, part.source)
        kept = part.folder == SPEECH_TOKENIZER
        _write_part(work / part.folder, part, None if kept else _DTYPES[dtype], shard_bytes)
    processor = reader.read_processor(published, hears=False)
    processor.save_pretrained(work)
    reader.generation_config(reader.language_model_config(published)).save_pretrained(work)
    shutil.copyfile(
        published.speech_tokenizer / "preprocessor_config.json", work / SPEECH_TOKENIZER / "preprocessor_config.json"
    )
    (work / _SETTINGS).unlink()
    work.rename(destination)
    return destination


def _parts(published: PublishedFolder) -> Iterator[_Part]:
    """The four models, one after the other."""
    speech = published.speech_tokenizer
    assert speech is not None
    yield _Part(
        ".",
        SpikeAudioForConditionalGeneration,
        reader.language_model_config(published),
        reader.language_model_weights(published),
        weight_names.WITH_ENCODER,
        published.root,
    )
    yield _Part(
        SPEECH_TOKENIZER,
        WhisperVQEncoder,
        speech_tokenizer_config(speech),
        reader.speech_tokenizer_weights(speech),
        weight_names.SPEECH_TOKENIZER,
        speech,
    )
    yield _Part(
        DETOKENIZER,
        FlowMatchingDetokenizer,
        detokenizer_config(published.detokenizer / "config.yaml"),
        reader.renamed_detokenizer_weights(published),
        weight_names.DETOKENIZER,
        published.detokenizer,
    )
    yield _Part(
        VOCODER,
        BigVGAN,
        vocoder_config(published.vocoder / "config.json"),
        reader.folded_vocoder_weights(published),
        weight_names.VOCODER,
        published.vocoder,
    )


def _claim(work: Path, settings: dict[str, Any]) -> None:
    """Make the work folder, or make sure that it is of this conversion."""
    path = work / _SETTINGS
    if path.is_file():
        if json.loads(path.read_text()) != settings:
            raise ValueError(f"{work} is of another conversion ({path}): give its settings again, or delete it")
        return
    work.mkdir(parents=True, exist_ok=True)
    _write(path, lambda temporary: temporary.write_text(json.dumps(settings)))


def _write_part(folder: Path, part: _Part, dtype: torch.dtype | None, shard_bytes: int) -> None:
    """Write weights shard by shard, those that are there already excepted, then index and configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: _stored(tensor, dtype) for name, tensor in part.weights.items()}  # sizes only
    split = split_torch_state_dict_into_shards(
        weights, filename_pattern="model{suffix}.safetensors", max_shard_size=shard_bytes
    )
    shards = sorted(split.filename_to_tensors.items())
    for filename, names in tqdm(shards, desc=part.model_class.__name__, unit="shard"):
        if not (folder / filename).is_file():
            _write_shard(folder / filename, {name: part.weights[name] for name in names}, dtype)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        _write(folder / "model.safetensors.index.json", lambda path: path.write_text(json.dumps(index, sort_keys=True)))
    config = part.config
    config.architectures = [part.model_class.__name__]
    config.dtype = next(tensor.dtype for tensor in weights.values() if tensor.is_floating_point())
    config.save_pretrained(folder)


def _write_shard(path: Path, weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
    """One file of weights; what is cast or copied for it lives in this call alone."""
    shard = {name: tensor.to(_stored(tensor, dtype).dtype).contiguous() for name, tensor in weights.items()}
    _write(path, lambda temporary: save_file(shard, temporary, metadata={"format": "pt"}))


def _stored(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A tensor without memory, of the shape and dtype that will be written."""
    wanted = tensor.dtype if dtype is None or not tensor.is_floating_point() else dtype
    return torch.empty(tensor.shape, dtype=wanted, device="meta")


def _write(path: Path, write: Any) -> None:
    """`write` a file under another name, and give it its own when it is complete and on disk."""
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
