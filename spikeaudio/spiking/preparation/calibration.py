"""From a dense decoder to a packed spiking one, block by block.

    fuse    norm gains go into the layers behind them                                  `rotation.fuse_norms`
    R1, R2  residual stream and value heads are rotated, in the weights                `rotation`
    R4      inputs of down projections are rotated, at run time                        `hadamard.OnlineHadamard`
    shift   x - mean x before every neuron, W mean x in the bias                       `outliers.shift_inputs`
    salient channels with the largest scores get more steps and their own range        `saliency`
    quanta  the threshold of least sum |x - decode(planes(x))|^2, per input            `threshold`
    weights W -> integers, rounded or by GPTQ on x^ = decode(planes(x))                `weight_grid`, `gptq`
            or trained on their grid to give the dense block's outputs                 `block_training`

Every stage is a switch of `GIFConfig` (what the checkpoint must know) or of `ConversionSettings` (what only conversion
must know). Inputs come from the blocks before, which spike already. Inside of a block the layers are done in the order
q, k, v | o | gate, up | down (of an encoder: q, k, v | out | fc1 | fc2), each on what those before it really fire.
Order and Hessians follow GPTQ (arXiv 2210.17323) and QuaRot (arXiv 2404.00456); shift, masks shared by an input, and
the search for thresholds are ours.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers, to_dense
from spikeaudio.spiking.layers.attention import set_attention
from spikeaudio.spiking.layers.linear import PackedSpikingLinear
from spikeaudio.spiking.preparation.block_conversion import BlockConversion
from spikeaudio.spiking.preparation.block_stream import BlockStream
from spikeaudio.spiking.preparation.conversion_report import BlockArchive, ConversionReport
from spikeaudio.spiking.preparation.fingerprint import add_batch, add_tensor
from spikeaudio.spiking.preparation.settings import ConversionSettings, seeded_generator
from spikeaudio.spiking.preparation.stacks import Stack, stacks_of
from spikeaudio.spiking.quantizer import GIFQuantizer
from spikeaudio.spiking.transforms.hadamard import hadamard_matrix, random_signs
from spikeaudio.spiking.transforms.rotation import find_layout, fuse_norms, rotate_residual, rotate_values

_SAMPLE = 1024  # leading elements of a parameter that tell models apart


def rotate_model(model: PreTrainedModel, seed: int = 0) -> None:
    """Fuse norms, then R1 and R2 with Hadamard matrices whose signs follow from a seed; logits stay.

    Raises:
        ValueError: as `fuse_norms`.
    """
    fuse_norms(model)
    size = find_layout(model).embedding.embedding_dim
    rotate_residual(model, hadamard_matrix(size, random_signs(size, seeded_generator(seed, "residual"))))
    heads = [block.head_dim for block in find_layout(model).blocks]
    signs = [random_signs(size, seeded_generator(seed, f"values {index}")) for index, size in enumerate(heads)]
    rotate_values(model, torch.stack([hadamard_matrix(len(each), each) for each in signs]))


@torch.no_grad()
def calibrate(
    model: PreTrainedModel,
    batches: Iterable[Mapping[str, Any]],
    settings: ConversionSettings,
    folder: str | Path | None = None,
) -> ConversionReport:
    """Turn a model into a spiking one, in place; ``save_pretrained`` then writes a checkpoint that loads as such.

    The method "train" ends with real weights, which are to be trained and packed next
    (:mod:`spikeaudio.spiking.preparation.rounded_weight`); every other one ends with packed weights.

    Args:
        model: a decoder that `find_layout` knows, dense or with neurons and real weights; in eval mode afterwards.
        batches: model inputs such as ``{"input_ids": (B, T)}``; ``attention_mask`` marks padding.
        settings: how to get there; not changed, the model gets a copy of its configuration.
        folder: where finished blocks are kept. Called again after a kill, with the same dense model, batches and
            settings, conversion goes on behind the last of them and gives the same bits. Delete it afterwards.

    Raises:
        ValueError: a model that is packed already, weights that are not finite, layers that no calibration input
            reaches, a folder of another conversion, or the errors of the stages. After any error the model is half
            converted: load it again.
        FloatingPointError: a block's training diverged.
    """
    settings = replace(settings, config=copy.deepcopy(settings.config))
    config, batches = settings.config, list(batches)
    config.packed = False
    _make_dense(model, config)
    stacks = stacks_of(model, config)
    set_attention(model, config.attention)
    if config.rotate:
        rotate_model(model, settings.seed)
    model.eval()
    archive = None
    if folder is not None:
        archive = BlockArchive(Path(folder), _fingerprint(model, settings, batches))
    # Dense blocks are shown what dense blocks and a dense encoder give, so their streams begin before any conversion.
    dense = [stack.stream(model, batches) if settings.method == "blocks" else None for stack in stacks]
    report = ConversionReport()
    for stack, teacher in zip(stacks, dense, strict=True):
        _convert_stack(model, stack, stack.stream(model, batches), teacher, settings, archive, report)
    config.packed = settings.packs
    _register(model, config)
    return report


def _convert_stack(
    model: PreTrainedModel,
    stack: Stack,
    stream: BlockStream,
    dense: BlockStream | None,
    settings: ConversionSettings,
    archive: BlockArchive | None,
    report: ConversionReport,
) -> None:
    """Convert the blocks of a stack in order, or restore those that are finished; adds to the report."""
    for index, name in enumerate(tqdm(stream.names, desc="spiking", unit="block", disable=None)):
        groups = stack.inside(name)
        block = BlockConversion(model, stream, index, settings, groups, dense)
        if not groups:
            block.skip()
            continue
        stored = archive.load(name) if archive is not None else None
        if stored is not None:
            report.blocks[name] = block.restore(*stored)
            continue
        report.blocks[name] = block.convert()
        if archive is not None:
            archive.save(name, model.get_submodule(name), report.blocks[name])


def _make_dense(model: PreTrainedModel, config: GIFConfig) -> None:
    """Take neurons away again that loading put in."""
    layers = dict(spiking_layers(model))
    if any(isinstance(layer, PackedSpikingLinear) for layer in layers.values()):
        raise ValueError("the model's weights are packed already: start from the dense checkpoint")
    before = getattr(model.config, "quantization_config", None)
    if layers and getattr(before, "rotate", False) and not config.rotate:
        raise ValueError("the model is rotated already: rotate must stay True")
    to_dense(model)


def _fingerprint(model: PreTrainedModel, settings: ConversionSettings, batches: Iterable[Mapping[str, Any]]) -> str:
    """Hex digest of what a conversion depends on; of long parameters only the beginning."""
    architecture = {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}
    described = json.dumps([architecture, settings.to_dict()], sort_keys=True, default=str)
    digest = hashlib.sha256(described.encode())
    for name, tensor in model.state_dict().items():
        add_tensor(digest, name, tensor.detach().flatten()[:_SAMPLE], tensor.shape)
    for batch in batches:
        add_batch(digest, batch)
    return digest.hexdigest()


def _register(model: PreTrainedModel, config: GIFConfig) -> None:
    """Tell transformers what the model is now, as loading would."""
    quantizer = GIFQuantizer(config, pre_quantized=True)
    model.is_quantized, model.quantization_method = True, config.quant_method
    model.hf_quantizer = quantizer
    quantizer.postprocess_model(model)
