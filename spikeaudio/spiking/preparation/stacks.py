"""Stacks of blocks in a model, and the layers in them that are to spike.

The decoder is the last stack. An encoder in front of it (:mod:`spikeaudio.lm.audio_encoder`) is one of its own, with
other blocks, other padding and no residual stream in common. It is converted first, so that the decoder is calibrated
on what the spiking encoder gives. Without layers that are to spike it is no stack: it just runs, dense.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.preparation.block_stream import BlockStream, RealTokens, attended_tokens
from spikeaudio.spiking.transforms.rotation import find_layout

_ENCODER_GROUPS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.out_proj",),
    ("fc1",),
    ("fc2",),
)
_HEARD = "input_features"


@dataclass(frozen=True)
class Stack:
    """Blocks that run one after the other.

    Attributes:
        blocks: their names.
        groups: names of the layers that are to spike, one list for each input, in the order in which a block uses them.
        decoder: whether it is the decoder; else it is an encoder.
    """

    blocks: list[str]
    groups: list[list[str]]
    decoder: bool

    def stream(self, model: PreTrainedModel, batches: Iterable[Mapping[str, Any]]) -> BlockStream:
        """The calibration batches in front of the first block; an encoder sees those with recordings.

        Raises:
            ValueError: no batch reaches the blocks.
        """
        real: RealTokens = attended_tokens if self.decoder else heard_frames
        reaching = batches if self.decoder else [batch for batch in batches if _hears(batch)]
        return BlockStream(model, reaching, self.blocks, real)

    def inside(self, block: str) -> list[list[str]]:
        """The groups of one block."""
        return [group for group in self.groups if group[0].startswith(f"{block}.")]


def heard_frames(batch: Mapping[str, Any]) -> Tensor | None:
    """Frames (pieces, F / 2) of 20 ms that an audio encoder gets from real samples."""
    mask = batch.get(f"{_HEARD}_mask")
    if mask is None:
        return None
    frames: Tensor = mask.bool()
    return frames[frames.any(-1)][:, ::2]


def _hears(batch: Mapping[str, Any]) -> bool:
    """Whether there is a recording in a batch."""
    if batch.get(_HEARD) is None:
        return False
    frames = heard_frames(batch)
    return frames is None or bool(frames.any())


def stacks_of(model: PreTrainedModel, config: GIFConfig) -> list[Stack]:
    """The stacks with layers that are to spike, in the order in which the model runs them.

    Raises:
        ValueError: a model that `find_layout` does not know, targets outside of blocks, a group size that does not
            divide a layer's inputs, or weights that are not finite: what would stop a conversion, known before it
            begins.
    """
    layout = find_layout(model)
    paths = {module: name for name, module in model.named_modules()}
    stacks = [_encoder(encoder, paths, config) for encoder in layout.encoders]
    groups = [_spiking(group, paths, config) for block in layout.blocks for group in block.groups]
    inside_encoders = tuple(f"{paths[encoder]}." for encoder in layout.encoders)
    blocks = [n for n, m in model.named_modules() if hasattr(m, "self_attn") and not n.startswith(inside_encoders)]
    stacks.append(Stack(blocks, [group for group in groups if group], decoder=True))
    stacks = [stack for stack in stacks if stack.groups]
    _check_targets(model, config, [name for stack in stacks for group in stack.groups for name in group])
    _check_weights(model)
    return stacks


def _encoder(encoder: nn.Module, paths: Mapping[nn.Module, str], config: GIFConfig) -> Stack:
    """Blocks of Whisper's type in an encoder."""
    blocks = [block for block in encoder.modules() if hasattr(block, "self_attn")]
    groups = []
    for block in blocks:
        parts = dict(block.named_modules())
        groups += [
            _spiking([parts[name] for name in names if name in parts], paths, config) for names in _ENCODER_GROUPS
        ]
    return Stack([paths[block] for block in blocks], [group for group in groups if group], decoder=False)


def _spiking(group: Iterable[nn.Module], paths: Mapping[nn.Module, str], config: GIFConfig) -> list[str]:
    """Names of the layers of a group that are to spike."""
    return [paths[module] for module in group if config.spikes(paths[module], module)]


def _check_targets(model: PreTrainedModel, config: GIFConfig, inside: list[str]) -> None:
    spiking = [name for name, module in model.named_modules() if config.spikes(name, module)]
    outside = [name for name in spiking if name not in set(inside)]
    if outside or not inside:
        raise ValueError(
            f"targets must name layers of decoder blocks or of an encoder, got {outside or config.targets}"
        )
    for name in sorted(inside):
        inputs = model.get_submodule(name).in_features
        if config.group_size and inputs % config.group_size:  # type: ignore[operator]
            raise ValueError(f"group_size {config.group_size} does not divide the {inputs} inputs of {name}")


def _check_weights(model: PreTrainedModel) -> None:
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity: the checkpoint is damaged, download or train it again")
