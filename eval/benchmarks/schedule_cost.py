"""What a schedule of the detokenizer costs: measured chunk by chunk, side by side; see `detokenizer_schedule`."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from eval.benchmarks.kimi_reference import KimiReferenceStream, KimiSchedule
from spikeaudio import BigVGAN, BigVGANConfig, DetokenizerConfig, FlowMatchingDetokenizer, VocosConfig, VocosVocoder
from spikeaudio.speech.decoder import CODES_PER_SECOND

WARM_UP = 2  # chunks
CHUNK = 30  # codes


@dataclass(frozen=True)
class Cost:
    """CPU seconds per second of audio, medians over the chunks behind the first ones."""

    detokenizer: float
    vocoder: float
    total: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.detokenizer + self.vocoder)


class Stopwatch:
    """CPU seconds of calls, summed until they are taken."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def run(self, call: Callable[[], Tensor]) -> Tensor:
        """The call's result; its time is added."""
        start = time.process_time()
        result = call()
        self.seconds += time.process_time() - start
        return result

    def take(self) -> float:
        """The sum; it begins again."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def random_weights(model: nn.Module, seed: int) -> None:
    """Weights of a usual size: zero gates would let neither network do anything that could be compared."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=generator)


def reference_chunks(model: FlowMatchingDetokenizer, vocoder: BigVGAN, codes: Tensor) -> Callable[[int], Cost]:
    """A function that pushes the k-th chunk into a reference stream."""
    vocoding, pushing = Stopwatch(), Stopwatch()
    config = model.config
    stream = KimiReferenceStream(
        model.dit,
        lambda mel: vocoding.run(lambda: vocoder.decode(mel)),
        vocoder.config.hop_length,
        config.mel_mean,
        config.mel_std,
        KimiSchedule(config.look_ahead_tokens, config.ode_steps + 1, max_kv_frames=config.max_kv_frames),
    )

    def push(index: int) -> Cost:
        pushing.run(lambda: stream.push(codes[CHUNK * index : CHUNK * (index + 1)])[1])
        return Cost(pushing.take() - (sound := vocoding.take()), sound)

    return push


def our_chunks(model: FlowMatchingDetokenizer, vocoder: BigVGAN | VocosVocoder, codes: Tensor) -> Callable[[int], Cost]:
    """A function that pushes the k-th chunk into one of our streams."""
    states = model.init_state(), vocoder.init_state()

    def push(index: int) -> Cost:
        watches = Stopwatch(), Stopwatch()
        mel = watches[0].run(lambda: model.step(codes[None, CHUNK * index : CHUNK * (index + 1)], states[0]))
        watches[1].run(lambda: vocoder.step(mel, states[1]))  # type: ignore[arg-type]  # each has its own state
        return Cost(watches[0].take(), watches[1].take())

    return push


def measure(schedules: Sequence[Callable[[int], Cost]], chunks: int) -> list[Cost]:
    """Costs per audio second of each schedule. The first chunks, whose emission is another one, do not count."""
    seconds = CHUNK / CODES_PER_SECOND
    costs = [[push(index) for push in schedules] for index in range(chunks + WARM_UP)][WARM_UP:]
    return [
        Cost(
            *(statistics.median(getattr(cost, part) for cost in each) / seconds for part in ("detokenizer", "vocoder"))
        )
        for each in zip(*costs, strict=True)
    ]


@dataclass(frozen=True)
class Comparison:
    """Costs of the schedules, and parameters of the DiT."""

    parameters: int
    reference: Cost
    ours: Cost
    ours_with_vocos: Cost


def compare(hidden_size: int, depth: int, channels: int, ode_steps: int, chunks: int) -> Comparison:
    """Measure networks of these sizes, with random weights, on one thread."""
    torch.set_num_threads(1)
    config = DetokenizerConfig(
        num_codes=16384,
        hidden_size=hidden_size,
        depth=depth,
        num_heads=max(1, hidden_size // 128),
        mel_mean=-4.479605,
        mel_std=3.4584913,
        chunk_tokens=CHUNK,
        look_ahead_tokens=12,
        max_kv_frames=900,
        ode_steps=ode_steps,
        cfg_scale=1.0,
    )
    model = FlowMatchingDetokenizer(config).eval()
    bigvgan = BigVGAN(BigVGANConfig(upsample_initial_channel=channels)).eval()
    vocos = VocosVocoder(VocosConfig()).eval()
    for seed, network in enumerate((model, bigvgan, vocos)):
        random_weights(network, seed)
    warm_up = 2
    codes = torch.randint(config.num_codes, (CHUNK * (chunks + warm_up),), generator=torch.Generator().manual_seed(9))
    schedules = [
        reference_chunks(model, bigvgan, codes),
        our_chunks(model, bigvgan, codes),
        our_chunks(model, vocos, codes),
    ]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Comparison(parameters, *measure(schedules, chunks))
