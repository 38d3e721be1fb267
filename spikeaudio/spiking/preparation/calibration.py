"""From a dense decoder to a packed spiking one, block by block.

    fuse    norm gains go into the layers behind them                                  `rotation.fuse_norms`
    R1, R2  residual stream and value heads are rotated, in the weights                `rotation`
    R4      inputs of down projections are rotated, at run time                        `hadamard.OnlineHadamard`
    shift   x - mean x before every neuron, W mean x in the bias                       `outliers.shift_inputs`
    salient channels with the largest scores get more steps and their own range        `saliency`
    quanta  the threshold of least sum |x - decode(planes(x))|^2, per input            `threshold`
    weights W -> integers, rounded or by GPTQ on x^ = decode(planes(x))                `weight_grid`, `gptq`
            or trained on their grid to give the dense block's outputs                 `block_training`

Every stage is a switch of `GIFConfig` (what the checkpoint must know) or of `Preparation` (what only conversion
must know). Inputs come from the blocks before, which spike already; inside of a block the layers are done in the
order q, k, v | o | gate, up | down, each on what those before it really fire. Order and Hessians follow GPTQ
(arXiv 2210.17323) and QuaRot (arXiv 2404.00456); shift, masks shared by an input, and the search for thresholds
are ours.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
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
from spikeaudio.spiking.preparation.settings import Preparation, seeded_generator
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
    config: GIFConfig,
    preparation: Preparation | None = None,
    folder: str | Path | None = None,
) -> ConversionReport:
    """Turn a model into a spiking one, in place; ``save_pretrained`` then writes a checkpoint that loads as such.

    Args:
        model: a decoder that `find_layout` knows, dense or with neurons and real weights; in eval mode afterwards.
        batches: model inputs such as ``{"input_ids": (B, T)}``; ``attention_mask`` marks padding. Read once.
        config: how the layers are to spike; not changed, the model gets a copy.
        preparation: how to get there; None: all defaults.
        folder: where finished blocks are kept. Called again after a kill, with the same dense model, batches and
            settings, conversion goes on behind the last of them and gives the same bits. Delete it afterwards.

    Raises:
        ValueError: a model that is packed already, layers that no calibration input reaches, a folder of another
            conversion, or the errors of the stages. After any error the model is half converted: load it again.
        FloatingPointError: a block's training diverged.
    """
    config, preparation = copy.deepcopy(config), preparation or Preparation()
    config.packed = False
    if preparation.quanta and config.neuron != "gif":
        raise ValueError(f"a search for quanta is for the neuron 'gif', got {config.neuron!r}")
    if preparation.weights == "train" and config.weight_bits == 2 and not preparation.weight_rate:
        raise ValueError("ternary weights have no bounds that could learn: weight_rate must be above 0, got 0")
    _make_dense(model, config)
    groups = layers_by_input(model, config)
    set_attention(model, config.attention)
    if config.rotate:
        rotate_model(model, preparation.seed)
    elif preparation.fuse:
        fuse_norms(model)
    model.eval()
    stream = BlockStream(model, batches)
    dense = stream.twin() if preparation.weights == "train" else None
    archive = None
    if folder is not None:
        archive = BlockArchive(Path(folder), _fingerprint(model, config, preparation, stream.digest))
    report = ConversionReport()
    for index, name in enumerate(tqdm(stream.names, desc="spiking", unit="block", disable=None)):
        inside = [group for group in groups if group[0].startswith(f"{name}.")]
        block = BlockConversion(model, stream, index, config, preparation, inside, dense)
        stored = archive.load(name) if archive is not None else None
        if stored is not None:
            report.blocks[name] = block.restore(*stored)
            continue
        report.blocks[name] = block.convert()
        if archive is not None:
            archive.save(name, model.get_submodule(name), report.blocks[name])
    config.packed = preparation.weights != "real"
    _register(model, config)
    return report


def _make_dense(model: PreTrainedModel, config: GIFConfig) -> None:
    """Take neurons away again that loading put in."""
    layers = dict(spiking_layers(model))
    if any(isinstance(layer, PackedSpikingLinear) for layer in layers.values()):
        raise ValueError("the model's weights are packed already: start from the dense checkpoint")
    before = getattr(model.config, "quantization_config", None)
    if layers and getattr(before, "rotate", False) and not config.rotate:
        raise ValueError("the model is rotated already: rotate must stay True")
    to_dense(model)


def layers_by_input(model: PreTrainedModel, config: GIFConfig) -> list[list[str]]:
    """Names of the layers that are to spike: one list for each input, in the order in which a block uses them.

    Raises:
        ValueError: a model that `find_layout` does not know, targets outside of its blocks, or a group size that does
            not divide a layer's inputs: what would stop a conversion, known before it begins.
    """
    paths = {module: name for name, module in model.named_modules()}
    groups = [
        [paths[linear] for linear in linears if config.spikes(paths[linear], linear)]
        for block in find_layout(model).blocks
        for linears in (block.attention.linears, (block.o_proj,), block.mlp.linears, (block.down_proj,))
    ]
    inside = {name for group in groups for name in group}
    spiking = [name for name, module in model.named_modules() if config.spikes(name, module)]
    outside = [name for name in spiking if name not in inside]
    if outside or not inside:
        raise ValueError(f"targets must name layers of decoder blocks, got {outside or config.targets}")
    for name in sorted(inside):
        inputs = model.get_submodule(name).in_features
        if config.group_size and inputs % config.group_size:  # type: ignore[operator]
            raise ValueError(f"group_size {config.group_size} does not divide the {inputs} inputs of {name}")
    return [group for group in groups if group]


def _fingerprint(model: PreTrainedModel, config: GIFConfig, preparation: Preparation, batches: str) -> str:
    """Hex digest of what a conversion depends on; of long parameters only the beginning."""
    architecture = {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}
    settings = [architecture, config.to_dict(), asdict(preparation), batches]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        start = tensor.detach().flatten()[:_SAMPLE].cpu().contiguous()
        digest.update(start.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _register(model: PreTrainedModel, config: GIFConfig) -> None:
    """Tell transformers what the model is now, as loading would."""
    quantizer = GIFQuantizer(config, pre_quantized=True)
    model.is_quantized, model.quantization_method = True, config.quant_method
    model.hf_quantizer = quantizer
    quantizer.postprocess_model(model)
