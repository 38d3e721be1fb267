"""Vocos: a ConvNeXt stack at frame rate whose output is the waveform's short-time spectrum.

    h      = LN(conv7(mel));    h <- h + gamma * W2 gelu(W1 LN(dwconv7(h)))   for each of L blocks
    (a, p) = W LN(h);           S = min(exp a, 100) * exp(i p);               wav = ISTFT(S)

Source: Siuzdak, Vocos (arXiv:2306.00814); its layers (`vocos.models`, `vocos.heads`) are imported, only their
schedule is written here, because the published forward sees a whole utterance and this one also runs on pieces.

Streaming is exact. Every convolution has a kernel of 7, so it keeps its last 6 inputs and answers 3 frames late; the
residual path waits for it in a queue; open synthesis frames overlap in a buffer together with their squared windows.
The zeros of "same" padding are put in front of each convolution once, when a stream begins, and behind it once, when
it ends. Hence `decode` and `forward` are one `step` over all frames, and any way of pushing gives the same samples.
One output frame needs 3 * (L + 1) frames of future: 0.42 s for L = 6 at 50 frames per second.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import initialization as init
from vocos.heads import ISTFTHead
from vocos.models import VocosBackbone
from vocos.modules import ConvNeXtBlock
from vocos.spectral_ops import ISTFT

from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.vocoder.configuration import VocosConfig
from spikeaudio.vocoder.state import VocoderState
from spikeaudio.vocoder.streaming import StreamingVocoder

_CONTEXT_FRAMES = 6  # kernel of 7
_MAX_MAGNITUDE = 1e2  # of the published head
_ENVELOPE_FLOOR = 1e-30  # only samples that are cut off, or silent, lie under it

# Published key prefix -> ours; None: not a weight of this model.
_VOCOS_KEYS = {
    "backbone.": "backbone.",
    "head.out.": "head.out.",
    "head.istft.window": None,  # a constant
    "feature_extractor.": None,  # the mel is computed elsewhere
}


class VocosVocoder(StreamingVocoder[VocoderState]):
    """Log-mel -> waveform.

    Args:
        config: sizes.

    Shape:
        mel: (B, num_mels, F) log-mel in the weights' dtype.
        return: (B, N) float32 in about [-1, 1]; N = hop_length * F, or
            hop_length * (F - 1) with "center" padding.

    Example:
        >>> import torch
        >>> from spikeaudio import VocosVocoder
        >>> vocoder = VocosVocoder.from_pretrained("checkpoints/spikeaudio-tiny/vocoder", dtype=torch.float32)
        >>> mel = vocoder.log_mel(torch.sin(torch.arange(24000) / 20)[None])  # 1 s
        >>> mel.shape, vocoder.decode(mel).shape
        (torch.Size([1, 80, 50]), torch.Size([1, 24000]))
        >>> state = vocoder.init_state()  # the same, piece by piece
        >>> pieces = [vocoder.step(mel[..., :20], state), vocoder.step(mel[..., 20:], state, last=True)]
        >>> torch.allclose(torch.cat(pieces, dim=1), vocoder.decode(mel), atol=1e-5)
        True
    """

    config: VocosConfig
    config_class = VocosConfig
    base_model_prefix = "vocoder"
    main_input_name = "mel"
    output_modalities = ("audio",)
    _no_split_modules = ["ConvNeXtBlock"]  # noqa: RUF012  transformers declares it

    def __init__(self, config: VocosConfig) -> None:
        super().__init__(config)
        self.backbone = VocosBackbone(
            input_channels=config.num_mels,
            dim=config.hidden_size,
            intermediate_dim=config.intermediate_size,
            num_layers=config.num_layers,
        )
        self.head = ISTFTHead(config.hidden_size, config.n_fft, config.hop_length, config.padding)
        # The window is a constant: not a weight, so that casting a checkpoint does not round it.
        self.head.istft.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The published initialisation: truncated normal of 0.02, layer scale 1 / num_layers."""
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, ConvNeXtBlock):
            init.constant_(module.gamma, 1 / self.config.num_layers)
        elif isinstance(module, ISTFT):
            init.copy_(module.window, torch.hann_window(self.config.n_fft))

    @classmethod
    def from_vocos(cls, folder: str | Path) -> "VocosVocoder":
        """Load a published Vocos checkpoint: ``config.yaml`` and ``model.safetensors`` in `folder`.

        Raises:
            FileNotFoundError: if one of the two is missing.
            ValueError: if a key is neither a weight of this model nor known to be droppable, or a weight is missing.
        """
        path = Path(folder) / "model.safetensors"
        model = cls(VocosConfig.from_vocos_yaml(Path(folder) / "config.yaml"))
        published = load_file(path)
        weights = {}
        for name, tensor in published.items():
            prefix = next((prefix for prefix in _VOCOS_KEYS if name.startswith(prefix)), None)
            if prefix is None:
                raise ValueError(f"{path} holds {name}, which is no part of a Vocos with prefixes {list(_VOCOS_KEYS)}")
            ours = _VOCOS_KEYS[prefix]
            if ours is not None:
                weights[ours + name.removeprefix(prefix)] = tensor
        expected = model.state_dict()
        shapes, wanted = ({name: tensor.shape for name, tensor in side.items()} for side in (weights, expected))
        wrong = sorted({name for name, _ in shapes.items() ^ wanted.items()})
        if wrong:
            raise ValueError(f"{path} does not fit its config.yaml: missing, left over or of another shape are {wrong}")
        model.load_state_dict(weights)
        return model.eval()

    def log_mel(self, wav: Tensor) -> Tensor:
        """The mel that spikeaudio's Vocos reads, Kimi-Audio's: (B, N) at `sampling_rate` -> (B, M, floor(N / hop))."""
        config = self.config
        return kimi_log_mel(
            wav, sampling_rate=config.sampling_rate, num_mels=config.num_mels, hop_length=config.hop_length
        )

    def init_state(self, batch_size: int = 1) -> VocoderState:
        """A fresh state for `batch_size` streams, owned by the caller.

        Raises:
            ValueError: if `batch_size` is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        weight = self.head.out.weight
        channels = self._context_channels
        open_samples = (batch_size, self._open_hops, self.config.hop_length)
        return VocoderState(
            contexts=[weight.new_zeros(batch_size, count, 3) for count in channels],
            residuals=[weight.new_zeros(batch_size, count, 0) for count in channels[1:]],
            overlap=torch.zeros(open_samples, device=weight.device),
            envelope=torch.zeros(open_samples, device=weight.device),
            starts=torch.zeros(batch_size, dtype=torch.long, device=weight.device),
        )

    @property
    def _context_channels(self) -> list[int]:
        """Input channels of the convolutions: embedding, then the blocks."""
        return [self.config.num_mels] + [self.config.hidden_size] * self.config.num_layers

    @property
    def state_sizes(self) -> tuple[object, ...]:
        return self._context_channels, (self._open_hops, self.config.hop_length)

    @property
    def _open_hops(self) -> int:
        """Hops of a synthesis frame that later frames still add to."""
        return -(-self.config.n_fft // self.config.hop_length) - 1

    def advance(self, mel: Tensor, state: VocoderState, last: bool) -> Tensor:
        """`step` without checks and with gradients."""
        first = state.frames  # index of the first frame that the coming layer reads
        hidden = self._convolve(self.backbone.embed, mel, state, 0, last)
        first = max(0, first - 3)
        hidden = self._hush(self.backbone.norm(hidden.transpose(1, 2)).transpose(1, 2), state, first)
        for index, block in enumerate(self.backbone.convnext):
            waiting = torch.cat([state.residuals[index], hidden], dim=-1)
            update = self._convolve(block.dwconv, hidden, state, index + 1, last)
            done = update.shape[-1]
            state.residuals[index] = waiting[..., done:].clone()
            update = block.pwconv2(block.act(block.pwconv1(block.norm(update.transpose(1, 2)))))
            first = max(0, first - 3)
            hidden = self._hush(waiting[..., :done] + (block.gamma * update).transpose(1, 2), state, first)
        state.frames += mel.shape[-1]
        wav = self._synthesize(self.backbone.final_layer_norm(hidden.transpose(1, 2)), state, last)
        if last:
            state.reset()
        return wav

    def _convolve(self, conv: nn.Conv1d, hidden: Tensor, state: VocoderState, index: int, last: bool) -> Tensor:
        """`conv` with the stream's own past: (B, C, f) -> (B, D, frames whose 3 frames of future are known)."""
        hidden = torch.cat([state.contexts[index], hidden], dim=-1)
        if last:
            hidden = F.pad(hidden, (0, 3))
        state.contexts[index] = hidden[..., -_CONTEXT_FRAMES:].clone()
        if hidden.shape[-1] <= _CONTEXT_FRAMES:
            return hidden.new_zeros(hidden.shape[0], conv.out_channels, 0)
        return F.conv1d(hidden, conv.weight, conv.bias, groups=conv.groups)

    @staticmethod
    def _hush(hidden: Tensor, state: VocoderState, first: int) -> Tensor:
        """Zero the frames (B, D, f) from before a reset: to the next convolution they are padding."""
        if not state.staggered:
            return hidden
        return hidden * state.started(first, hidden.shape[-1])[:, None]

    def _synthesize(self, hidden: Tensor, state: VocoderState, last: bool) -> Tensor:
        """Spectral frames from (B, f, D), inverse FFT, overlap-add: (B, n) samples that are complete."""
        hop, trim = self.config.hop_length, self.config.trim_samples
        count = hidden.shape[1]
        emitted = max(0, state.spectral_frames * hop - trim)
        magnitude, phase = self.head.out(hidden).float().chunk(2, dim=-1)
        spectrum = torch.polar(magnitude.exp().clamp(max=_MAX_MAGNITUDE), phase)
        window = self.head.istft.window.float()
        if count:
            pieces = torch.fft.irfft(spectrum, self.config.n_fft) * window  # (B, f, n_fft)
        else:  # irfft refuses to transform nothing
            pieces = magnitude.new_zeros(hidden.shape[0], 0, self.config.n_fft)
        squares = window.square().expand(pieces.shape[0], count, -1)
        if state.staggered:
            started = state.started(state.spectral_frames, count)[..., None]
            pieces, squares = pieces * started, squares * started
        samples = self._overlap_add(pieces, state.overlap)
        envelope = self._overlap_add(squares, state.envelope)
        state.overlap, state.envelope = samples[:, count:].clone(), envelope[:, count:].clone()
        start = state.spectral_frames * hop  # untrimmed index of samples[:, 0, 0]
        state.spectral_frames += count
        stop = state.spectral_frames * hop
        if last:
            stop = max(0, (state.spectral_frames - 1) * hop + self.config.n_fft - trim) if state.spectral_frames else 0
        keep = slice(emitted + trim - start, max(emitted + trim, stop) - start)
        wav = samples.flatten(1)[:, keep] / envelope.flatten(1)[:, keep].clamp(min=_ENVELOPE_FLOOR)
        if state.staggered:
            index = torch.arange(emitted, emitted + wav.shape[1], device=wav.device)
            wav = wav * (index >= hop * state.starts[:, None])
        return wav

    def _overlap_add(self, pieces: Tensor, tail: Tensor) -> Tensor:
        """Add pieces (B, f, n_fft), hop apart, onto the open `tail` (B, R - 1, hop): (B, f + R - 1, hop)."""
        count, hop = pieces.shape[1], self.config.hop_length
        rest = -pieces.shape[-1] % hop
        if rest:
            pieces = F.pad(pieces, (0, rest))
        slices = pieces.unflatten(-1, (-1, hop))  # (B, f, R, hop)
        total = F.pad(tail, (0, 0, 0, count))
        for index in range(slices.shape[2]):
            total[:, index : index + count] += slices[:, :, index]
        return total
