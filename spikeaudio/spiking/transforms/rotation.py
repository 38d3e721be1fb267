"""Rotations of a decoder language model that its outputs do not see: they spread outliers before quantization.

    fuse   W <- W diag(g), g <- 1              RMSNorm(x Q) = RMSNorm(x) Q holds for norms without gains only
    R1     x <- x Q   on the residual stream   embeddings E Q, writers Q^T W and b Q, readers W Q (both heads)
    R2     v <- v Q   in every value head      v_proj Q^T W and b Q, o_proj W Q per head
    R3     q, k <- q H, k H   after RoPE       at run time: `spikeaudio.spiking.transforms.hadamard.rotate_queries_keys`
    R4     x <- x H   before down_proj         W H by `rotate_inputs` there, x H at run time by `OnlineHadamard`

on row vectors x. All is computed in float64 and rounded once to the weights' dtype. Q is any orthogonal matrix,
such as ``hadamard_matrix(n, random_signs(n))``. After R1, `hidden_states` and `inputs_embeds` are rotated, too.

Sources: QuaRot (arXiv 2404.00456); SpinQuant (arXiv 2405.16406), whose names R1 to R4 these are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_ROWS_AT_ONCE = 4096  # of a vocabulary in float64


@dataclass(frozen=True)
class Reader:
    """An RMSNorm on the residual stream and the linear layers behind it."""

    norm: nn.Module
    linears: tuple[nn.Linear, ...]


@dataclass(frozen=True)
class DecoderBlock:
    """One layer of Qwen2, Llama, Qwen3 or Phi-3 type."""

    attention: Reader  # q, k and v, or all three in one
    mlp: Reader  # gate and up, or both in one
    o_proj: nn.Linear
    down_proj: nn.Linear
    head_dim: int
    values: slice  # which outputs of the last layer of `attention` are values

    @property
    def groups(self) -> tuple[tuple[nn.Linear, ...], ...]:
        """Linear layers by the input that they share, in order of use."""
        return self.attention.linears, (self.o_proj,), self.mlp.linears, (self.down_proj,)


@dataclass(frozen=True)
class ResidualLayout:
    """What touches the residual stream of a model."""

    embedding: nn.Embedding
    adaptors: tuple[nn.Module, ...]  # write features to the embeddings' places; their last child is applied last
    blocks: tuple[DecoderBlock, ...]  # all layers, branches included
    heads: tuple[Reader, ...]  # final norm and output layer of each stream of tokens
    encoders: tuple[nn.Module, ...] = ()  # make what the adaptors read; no part of the residual stream

    def readers(self) -> Iterator[Reader]:
        """Every norm with what reads it."""
        for block in self.blocks:
            yield from (block.attention, block.mlp)
        yield from self.heads


def find_layout(model: PreTrainedModel) -> ResidualLayout:
    """Recognize the parts of a model by their structure and names.

    Known are the input embedding, layers of Qwen2, Llama, Qwen3 or Phi-3 type, pairs ``norm`` and ``lm_head``,
    ``x_norm`` and ``x_head``, modules named ``...adaptor``, and in front of these modules named ``...encoder``. Modules
    without parameters do not matter.

    Raises:
        ValueError: a part with parameters is none of these: nobody knows what it does to the residual stream.
    """
    blocks, adaptors, encoders, embedding = [], [], [], model.get_input_embeddings()
    norms: dict[str, nn.Module] = {}
    heads: dict[str, nn.Linear] = {}
    for path, part in _parts(model):
        name = path.rpartition(".")[2]
        if hasattr(part, "self_attn"):
            blocks.append(_block(path, part, type(model).__name__))
        elif name.endswith("adaptor"):
            adaptors.append(part)
        elif name.endswith("encoder"):
            encoders.append(part)
        elif name.endswith("norm") and _is_rms_norm(part):
            norms[name.removesuffix("norm").removesuffix("_")] = part
        elif name.endswith("_head") and isinstance(part, nn.Linear):
            heads["" if name == "lm_head" else name.removesuffix("_head")] = part
        elif part is not embedding:
            raise ValueError(
                f"{path} ({type(part).__name__}) of {type(model).__name__} is no known part: "
                "decoders of Qwen2, Llama, Qwen3 and Phi-3 type are"
            )
    if not blocks or norms.keys() != heads.keys():
        found = f"{len(blocks)} layers, norms {[*norms]} and heads {[*heads]}"
        raise ValueError(f"{type(model).__name__} needs decoder layers and one head per final norm, got {found}")
    if encoders and not adaptors:
        raise ValueError(f"{type(model).__name__} has an encoder, but no module named ...adaptor behind it")
    ends = tuple(Reader(norm, (heads[name],)) for name, norm in norms.items())
    return ResidualLayout(embedding, tuple(adaptors), tuple(blocks), ends, tuple(encoders))


def _parts(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Outermost modules with a meaning of their own, with their paths."""
    for name, child in module.named_children():
        inside = f"{path}.{name}" if path else name
        known = hasattr(child, "self_attn") or name.endswith(("adaptor", "encoder"))
        if known or any(True for _ in child.parameters(recurse=False)):
            yield inside, child
        else:
            yield from _parts(child, inside)


def _is_rms_norm(module: nn.Module) -> bool:
    """Whether it computes ``weight * x / sqrt(mean x^2 + variance_epsilon)``: norms with this attribute do."""
    return hasattr(module, "variance_epsilon") and isinstance(getattr(module, "weight", None), nn.Parameter)


def _block(path: str, layer: nn.Module, architecture: str) -> DecoderBlock:
    parts = {name for name, child in layer.named_children() if any(True for _ in child.parameters())}
    if parts != {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}:
        raise ValueError(f"{path} must consist of self_attn, mlp and the norms before them, got {sorted(parts)}")
    inside = dict(layer.named_modules())

    def linear(name: str) -> nn.Linear:
        found = inside.get(name)
        if not isinstance(found, nn.Linear):
            kind = "none" if found is None else type(found).__name__
            raise ValueError(f"{path}.{name} of {architecture} must be a linear layer, got {kind}")
        return found

    def reader(norm: str, *names: str) -> Reader:
        found = inside[norm]
        if not _is_rms_norm(found):
            raise ValueError(f"{path}.{norm} must be an RMSNorm with variance_epsilon, got {type(found).__name__}")
        return Reader(found, tuple(linear(name) for name in names))

    fused = "self_attn.qkv_proj" in inside, "mlp.gate_up_proj" in inside  # as in Phi-3
    queries = ("self_attn.qkv_proj",) if fused[0] else ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    gates = ("mlp.gate_up_proj",) if fused[1] else ("mlp.gate_proj", "mlp.up_proj")
    attention, o_proj = reader("input_layernorm", *queries), linear("self_attn.o_proj")
    outputs = attention.linears[-1].out_features
    # The heads of values are as many as those of keys: half of what queries leave.
    values = (outputs - o_proj.in_features) // 2 if fused[0] else outputs
    return DecoderBlock(
        attention,
        reader("post_attention_layernorm", *gates),
        o_proj,
        linear("mlp.down_proj"),
        int(inside["self_attn"].head_dim),  # type: ignore[arg-type]
        slice(outputs - values, outputs),
    )


def end_in_linear(adaptor: nn.Module, size: int) -> nn.Linear:
    """The linear layer at the end of an adaptor with `size` outputs; behind any other end, an identity.

    A LayerNorm with gains has no place for a rotation. The identity changes names in the state dict (the module
    ``norm`` becomes ``norm.0``, the linear layer ``norm.1``): call this before loading rotated weights, too.
    """
    if isinstance(adaptor, nn.Linear):
        return adaptor
    name, last = list(adaptor.named_children())[-1]
    if isinstance(last, nn.Linear) or any(True for _ in last.children()):
        return end_in_linear(last, size)
    like = next(adaptor.parameters())
    linear = nn.Linear(size, size, bias=False, device=like.device, dtype=like.dtype)
    nn.init.eye_(linear.weight)
    setattr(adaptor, name, nn.Sequential(last, linear))
    return linear


def _untie_head(model: PreTrainedModel) -> None:
    """Give a head that shares the embedding's matrix one of its own: fused gains belong to the head alone."""
    layout = find_layout(model)
    for (head,) in (reader.linears for reader in layout.heads):
        if head.weight is layout.embedding.weight:
            head.weight = nn.Parameter(head.weight.detach().clone(), head.weight.requires_grad)
            model.config.tie_word_embeddings = False
            model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


@torch.no_grad()
def fuse_norms(model: PreTrainedModel) -> None:
    """Multiply the gains of all norms into the linear layers behind them; a tied head becomes a matrix of its own.

    Raises:
        ValueError: an unknown model (`find_layout`), or a norm that adds a constant where its gain is 0.
    """
    _untie_head(model)
    for reader in find_layout(model).readers():
        gain = reader.norm.get_parameter("weight")
        for linear in reader.linears:
            linear.weight.mul_(gain.to(linear.weight.device))  # one rounding: no need for float64
        bias = getattr(reader.norm, "bias", None)
        if bias is not None:  # injected outliers: gain x + bias = gain (x + bias / gain)
            if bool(((gain == 0) & (bias != 0)).any()):
                raise ValueError("a norm adds a constant to a channel whose gain is 0: nothing to divide it by")
            bias.copy_(torch.where(bias == 0, bias, bias.double() / gain))
        gain.fill_(1)


@torch.no_grad()
def rotate_residual(model: PreTrainedModel, rotation: Tensor) -> None:
    """R1: rotate the residual stream in everything that writes or reads it.

    Args:
        model: after `fuse_norms`. Its adaptors get a linear layer at their end (`end_in_linear`).
        rotation: (D, D), orthonormal.

    Raises:
        ValueError: an unknown model, norms with gains, or a matrix of another size or not orthonormal.
    """
    layout = find_layout(model)
    size = layout.embedding.embedding_dim
    _check_rotation(rotation, size)
    if any(bool((reader.norm.get_parameter("weight") != 1).any()) for reader in layout.readers()):
        raise ValueError("the norms have gains, which do not commute with a rotation: call fuse_norms first")
    _untie_head(model)
    _rotate_rows(layout.embedding.weight, rotation)
    writers = [linear for block in layout.blocks for linear in (block.o_proj, block.down_proj)]
    for writer in (*writers, *(end_in_linear(adaptor, size) for adaptor in layout.adaptors)):
        _rotate_outputs(writer, rotation)
    for reader in layout.readers():
        if getattr(reader.norm, "bias", None) is not None:
            _rotate_rows(reader.norm.get_buffer("bias"), rotation)
        for linear in reader.linears:
            _rotate_rows(linear.weight, rotation)


@torch.no_grad()
def rotate_values(model: PreTrainedModel, rotation: Tensor) -> None:
    """R2: rotate every value head; the query heads that share one undo the same rotation in o_proj.

    Args:
        model: model of a kind that `find_layout` knows.
        rotation: (head_dim, head_dim) orthonormal, or one for each layer, (layers, head_dim, head_dim).

    Raises:
        ValueError: an unknown model, or a matrix of another size or not orthonormal.
    """
    blocks = find_layout(model).blocks
    rotations = rotation.expand(len(blocks), *rotation.shape[-2:])
    for block, matrix in zip(blocks, rotations, strict=True):
        _check_rotation(matrix, block.head_dim)
        _rotate_outputs(block.attention.linears[-1], matrix, block.values)
        _rotate_rows(block.o_proj.weight, matrix)


def _check_rotation(rotation: Tensor, size: int) -> None:
    if rotation.shape != (size, size):
        raise ValueError(f"expected a rotation of shape ({size}, {size}), got {tuple(rotation.shape)}")
    error = float((rotation.double() @ rotation.double().T - torch.eye(size).to(rotation)).abs().max())
    if not error < 1e-5:
        raise ValueError(f"a rotation must be orthonormal, but Q Q^T differs from 1 by {error:.1e}")


def _rotate_rows(tensor: Tensor, rotation: Tensor) -> None:
    """t <- t Q in place, in each of the parts of Q's size that the last axis consists of."""
    matrix = rotation.to(tensor.device, torch.float64)
    parts = tensor.view(*tensor.shape[:-1], -1, len(matrix))
    for start in range(0, len(parts), _ROWS_AT_ONCE):
        rows = parts[start : start + _ROWS_AT_ONCE]
        rows.copy_(rows.double() @ matrix)


def _rotate_outputs(linear: nn.Linear, rotation: Tensor, outputs: slice = slice(None)) -> None:
    """y <- y Q for some outputs: W <- Q^T W, b <- b Q."""
    _rotate_rows(linear.weight[outputs].T, rotation)
    if linear.bias is not None:
        _rotate_rows(linear.bias[outputs], rotation)
