"""BigVGAN: transposed convolutions from mel frames to samples, with periodic, anti-aliased activations.

    h = conv7(mel);    for each stage:  h = upsample(h),  h = mean_j block_j(h);    wav = clamp(conv7(act(h)), -1, 1)
    block:  h <- h + conv(act(conv_dilated(act(h))))     once per dilation
    act:    down(snake(up(x))) at twice the rate,        snake(x) = x + sin(a x)^2 / (b + 1e-9)

a and b per channel, stored as logarithms; up and down share a 12-tap Kaiser-windowed sinc, which the checkpoint holds.

Source: Lee et al., BigVGAN (arXiv:2206.04658), as in MoonshotAI/Kimi-Audio (its plain path). Parameters have the
published names with weight norm folded; `fold_weight_norm` does that. Streaming is exact (`piece.py`): each
operation keeps its own context, nothing is decoded twice and no seams are faded. With Kimi-Audio's kernels a sample
waits for the 40 frames, 0.8 s, to either side that it depends on (by how little, no code can know).

Notation: B batch, C channels, M mel bands, F mel frames, N samples.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import initialization as init

from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.vocoder.configuration import BigVGANConfig
from spikeaudio.vocoder.piece import LineState, Piece
from spikeaudio.vocoder.streaming import StreamingVocoder

_TAPS = 12
_EPS = 1e-9


def fold_weight_norm(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with each pair ``weight_g``, ``weight_v`` replaced by ``weight`` = v g / ||v||; the others as they are.

    Args:
        weights: a state dict; the norm of v goes over all dimensions but the first.

    Raises:
        ValueError: one of a pair is missing, or g does not have one number per row of v.
    """
    folded = {}
    for name, tensor in weights.items():
        stem, _, part = name.rpartition("weight_")
        other = {"g": f"{stem}weight_v", "v": f"{stem}weight_g"}.get(part)
        if other is not None and other not in weights:
            raise ValueError(f"{name} has no {other} beside it")
        if part == "v":
            gain = weights[f"{stem}weight_g"]
            if gain.shape != (len(tensor), *[1] * (tensor.ndim - 1)):
                raise ValueError(
                    f"{stem}weight_g has shape {tuple(gain.shape)}, but {name} has shape {tuple(tensor.shape)}: "
                    "expected one number per row"
                )
            norm = torch.linalg.vector_norm(tensor.float(), dim=tuple(range(1, tensor.ndim)), keepdim=True)
            folded[f"{stem}weight"] = (tensor.float() * (gain.float() / norm)).to(tensor.dtype)
        elif part != "g":
            folded[name] = tensor
    return folded


def kaiser_sinc(taps: int = _TAPS, cutoff: float = 0.25, half_width: float = 0.3) -> Tensor:
    """Low-pass filter (1, 1, taps), of sum 1: a sinc under a Kaiser window. Rates are in cycles per sample."""
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    else:
        beta = 0.5842 * max(0.0, attenuation - 21) ** 0.4 + 0.07886 * max(0.0, attenuation - 21)
    time = torch.arange(taps) - (taps - 1) / 2
    window = torch.kaiser_window(taps, periodic=False, beta=beta)
    response = 2 * cutoff * window * torch.sinc(2 * cutoff * time)
    return (response / response.sum()).view(1, 1, taps)


class Convolution(nn.Conv1d):
    """A convolution that keeps the length of a stream. Shape: (B, C, N) -> (B, D, n), the samples that are complete."""

    def forward(self, x: Tensor, piece: Piece) -> Tensor:  # type: ignore[override]
        return piece.convolve(x, self.weight, self.bias, dilation=self.dilation[0])


class Upsampling(nn.ConvTranspose1d):
    """`stride` samples for each of a stream. Shape: (B, C, N) -> (B, D, n), the samples that are complete."""

    def forward(self, x: Tensor, piece: Piece) -> Tensor:  # type: ignore[override]
        return piece.upsample(x, self.weight, self.bias, rate=self.stride[0])


class Stage(nn.ModuleList):
    """The upsampling of a stage: in the published names a list of one."""

    def forward(self, x: Tensor, piece: Piece) -> Tensor:
        return self[0](x, piece)


class Snake(nn.Module):
    """x + sin(a x)^2 / (b + 1e-9) per channel of (B, C, N). `beta` None: b = a."""

    def __init__(self, channels: int, has_beta: bool, logarithms: bool) -> None:
        super().__init__()
        self.logarithms = logarithms
        self.alpha = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.empty(channels)) if has_beta else None

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[:, None]
        beta = alpha if self.beta is None else self.beta[:, None]
        if self.logarithms:
            alpha, beta = alpha.exp(), beta.exp()
        return torch.addcdiv(x, (x * alpha).sin().square(), beta + _EPS)


class LowPass(nn.Module):
    """Holds the filter of one direction, (1, 1, 12)."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.empty(1, 1, _TAPS))

    def per_channel(self, channels: int) -> Tensor:
        """The filter for each channel alone, (C, 1, 12)."""
        return self.filter.expand(channels, -1, -1)


class Downsample(nn.Module):
    """Holds the filter as the published checkpoint does."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = LowPass()


class AntiAliasedSnake(nn.Module):
    """Snake at twice the rate: up, activate, down. Shape: (B, C, N) -> (B, C, n), the samples that are complete."""

    def __init__(self, channels: int, has_beta: bool, logarithms: bool) -> None:
        super().__init__()
        self.upsample = LowPass()
        self.act = Snake(channels, has_beta, logarithms)
        self.downsample = Downsample()

    def forward(self, x: Tensor, piece: Piece) -> Tensor:
        channels = x.shape[1]
        x = 2 * piece.upsample(x, self.upsample.per_channel(channels), rate=2, replicate=True)
        edges = (_TAPS // 2 - 1, _TAPS // 2)
        low_pass = self.downsample.lowpass.per_channel(channels)
        return piece.convolve(self.act(x), low_pass, stride=2, edges=edges, replicate=True)


class AMPBlock(nn.Module):
    """Residual pairs of convolutions, the first one dilated, each behind an activation. Shape: (B, C, N) -> (B, C, n).

    Args:
        channels: C.
        kernel: odd.
        dilations: dilation of the first convolution of each pair.
        has_beta: whether the activations have a beta of their own.
        logarithms: whether alpha and beta are stored as logarithms.
    """

    def __init__(self, channels: int, kernel: int, dilations: list[int], has_beta: bool, logarithms: bool) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(Convolution(channels, channels, kernel, dilation=d) for d in dilations)
        self.convs2 = nn.ModuleList(Convolution(channels, channels, kernel) for _ in dilations)
        self.activations = nn.ModuleList(AntiAliasedSnake(channels, has_beta, logarithms) for _ in 2 * dilations)

    def forward(self, hidden: Tensor, piece: Piece) -> Tensor:
        for first, second, before, between in zip(
            self.convs1, self.convs2, self.activations[::2], self.activations[1::2], strict=True
        ):
            x = between(first(before(hidden, piece), piece), piece)
            hidden = piece.add(second(x, piece), hidden)
        return hidden


class BigVGAN(StreamingVocoder[LineState]):
    """Log-mel -> waveform.

    Args:
        config: sizes.

    Shape:
        mel: (B, M, F) log-mel in the weights' dtype.
        return: (B, N) float32 in [-1, 1], N = hop_size * F.

    Example:
        >>> import torch
        >>> from spikeaudio import BigVGAN, BigVGANConfig
        >>> small = BigVGANConfig(
        ...     upsample_rates=(6, 8, 10), upsample_kernel_sizes=(12, 16, 20), upsample_initial_channel=32
        ... )
        >>> BigVGAN(small).eval().decode(torch.randn(1, 80, 5)).shape
        torch.Size([1, 2400])
    """

    config: BigVGANConfig
    config_class = BigVGANConfig
    base_model_prefix = "vocoder"
    main_input_name = "mel"
    output_modalities = ("audio",)
    _no_split_modules = ["AMPBlock"]  # noqa: RUF012  transformers declares it

    def __init__(self, config: BigVGANConfig) -> None:
        super().__init__(config)
        channels = config.upsample_initial_channel
        snake = config.activation == "snakebeta", config.snake_logscale
        self.conv_pre = Convolution(config.num_mels, channels, 7)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            self.ups.append(Stage([Upsampling(channels, channels // 2, kernel, rate)]))
            channels //= 2
            for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True):
                self.resblocks.append(AMPBlock(channels, size, list(dilations), *snake))
        self.activation_post = AntiAliasedSnake(channels, *snake)
        self.conv_post = Convolution(channels, 1, 7, bias=config.use_bias_at_final)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The published initialisation: normal of 0.01, a = b = 1."""
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, Snake):
            for parameter in module.parameters():
                init.constant_(parameter, 0.0 if module.logarithms else 1.0)
        elif isinstance(module, LowPass):
            init.copy_(module.filter, kaiser_sinc())

    def log_mel(self, wav: Tensor) -> Tensor:
        """The mel that this vocoder reads: (B, N) at `sampling_rate` -> (B, M, floor(N / hop_size))."""
        config = self.config
        return kimi_log_mel(
            wav,
            sampling_rate=config.sampling_rate,
            num_mels=config.num_mels,
            n_fft=config.n_fft,
            hop_length=config.hop_size,
            win_length=config.win_size,
            f_min=config.fmin,
            f_max=config.fmax,
        )

    def init_state(self, batch_size: int = 1) -> LineState:
        """A fresh state for `batch_size` streams, owned by the caller.

        Raises:
            ValueError: if `batch_size` is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        starts = torch.zeros(batch_size, dtype=torch.long, device=self.conv_pre.weight.device)
        return LineState([], starts, self.state_sizes, self.conv_pre.weight.dtype)

    @property
    def state_sizes(self) -> tuple[object, ...]:
        """What a state must fit."""
        config = self.config
        kernels = (config.upsample_kernel_sizes, config.resblock_kernel_sizes, config.resblock_dilation_sizes)
        return config.num_mels, config.upsample_initial_channel, str((config.upsample_rates, kernels))

    def advance(self, mel: Tensor, state: LineState, last: bool) -> Tensor:
        """`step` without checks and with gradients."""
        piece = Piece(state, last)
        state.frames += mel.shape[-1]
        hidden = self.conv_pre(mel, piece)
        blocks = len(self.config.resblock_kernel_sizes)
        for index, up in enumerate(self.ups):
            hidden = up(hidden, piece)
            parallel = [block(hidden, piece) for block in self.resblocks[blocks * index : blocks * (index + 1)]]
            hidden = piece.add(*parallel) / blocks
        wav = self.conv_post(self.activation_post(hidden, piece), piece)
        wav = (wav.tanh() if self.config.use_tanh_at_final else wav.clamp(-1, 1))[:, 0].float()  # (B, n)
        if state.staggered:
            places = torch.arange(state.samples, state.samples + wav.shape[1], device=wav.device)
            wav = wav * (places >= state.starts[:, None] * self.config.hop_size)
        state.samples += wav.shape[1]
        if last:
            state.reset()
        return wav
