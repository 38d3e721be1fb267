"""Both executions of a spiking linear layer give the same integers, and those of exact arithmetic."""

import pytest
import torch
from torch import Tensor

from spikeaudio.spiking.kernels import execution
from spikeaudio.spiking.kernels.execution import event_driven, folded, integer_product
from spikeaudio.spiking.neurons.gif import GIF, GIFNeuron
from spikeaudio.spiking.neurons.planes import Plane, decode
from spikeaudio.spiking.neurons.steps import BitSteps, RadixSteps, StepCode, UnarySteps
from spikeaudio.spiking.neurons.threshold import MeanThreshold, PeakThreshold


def exact(counts: Tensor, weight: Tensor) -> Tensor:
    return (counts.to(torch.int64).unsqueeze(-2) * weight.to(torch.int64)).sum(-1).to(torch.int32)


def draw(seed: int) -> tuple[StepCode, Tensor, Tensor]:
    """A random step code, counts over its whole range with both ends in them, and weights with both ends in them."""
    rng = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=rng))

    steps, levels = integer(1, 4), integer(1, 15)
    codes = (UnarySteps(steps, levels), RadixSteps(min(steps, 2), min(levels, 7)), BitSteps())
    code: StepCode = codes[seed % len(codes)]
    largest = code.capacity or 20
    shape = [integer(1, 3) for _ in range(integer(0, 2))] + [integer(1, 40)]
    counts = torch.randint(-largest, largest + 1, shape, generator=rng, dtype=torch.int32)
    bits = 4 if isinstance(code, RadixSteps | BitSteps) else 8
    weight = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (integer(1, 24), shape[-1]), generator=rng)
    counts.view(-1)[0], counts.view(-1)[-1] = largest, -largest
    weight.view(-1)[0], weight.view(-1)[-1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return code, counts, weight.to(torch.int8)


@pytest.mark.parametrize("seed", range(60))
def test_accumulators_are_equal(seed: int) -> None:
    code, counts, weight = draw(seed)
    plane = Plane(counts, torch.ones(*counts.shape[:-1], 1), code)
    expected = exact(counts, weight)
    for execute in (folded, event_driven):
        accumulators = execute(plane, weight)
        assert accumulators.dtype == torch.int32
        assert torch.equal(accumulators, expected), execution.__name__


def test_the_widest_layer_at_its_extremes() -> None:
    counts = torch.full((1, 18944), 30, dtype=torch.int32)
    weight = torch.full((2, 18944), -8, dtype=torch.int8)
    plane = Plane(counts, torch.ones(1, 1), UnarySteps(2, 15))
    assert folded(plane, weight).tolist() == event_driven(plane, weight).tolist() == [[18944 * 30 * -8] * 2]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("size", [1, 100, 1040, 1041, 5000])
def test_every_kernel_gives_the_same_integers(size: int, int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the largest counts and weights, with an odd last bit that a float32 sum beyond 2^24 would lose."""
    monkeypatch.setattr(execution, "_multiplies_int8", lambda: int8)
    counts, weight = torch.full((2, size), 127, dtype=torch.int32), torch.full((3, size), 127, dtype=torch.int8)
    counts[1, 0], weight[2, 0] = 126, -128
    expected = counts.to(torch.int64) @ weight.to(torch.int64).T
    assert torch.equal(execution.integer_product(counts, weight), expected.to(torch.int32))


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("outputs", [1, 2, 48])
def test_a_single_channel(tokens: int, outputs: int) -> None:
    """A salient channel that is alone in its weight group; memory that was used before is not zero."""
    counts = torch.arange(1, tokens + 1, dtype=torch.int32).unsqueeze(1)
    weight = torch.arange(1, outputs + 1).unsqueeze(1).to(torch.int8)
    for _ in range(20):
        used = torch.full((tokens, outputs), 1e9)
        del used
        assert torch.equal(integer_product(counts, weight), counts * weight.T.to(torch.int32))


def test_sums_that_might_not_fit_are_refused() -> None:
    with pytest.raises(OverflowError, match="may overflow int32"):
        integer_product(torch.full((1, 2), 2**24, dtype=torch.int32), torch.ones(1, 2, dtype=torch.int8))


def test_no_tokens_and_silence() -> None:
    weight = torch.ones(5, 3, dtype=torch.int8)
    for counts in (torch.zeros(0, 3, dtype=torch.int32), torch.zeros(2, 4, 3, dtype=torch.int32)):
        plane = Plane(counts, torch.ones(*counts.shape[:-1], 1), UnarySteps(2, 7))
        for execute in (folded, event_driven):
            out = execute(plane, weight)
            assert out.shape == (*counts.shape[:-1], 5) and not out.any()


@pytest.mark.parametrize("threshold", [PeakThreshold(), PeakThreshold(0.6), MeanThreshold(2)], ids=str)
@pytest.mark.parametrize("salient", [0, 5])
def test_gif_planes_stand_for_the_input(threshold: PeakThreshold | MeanThreshold, salient: int) -> None:
    x = torch.randn(4, 6, 50)
    x[..., :salient] *= 20
    mask = torch.arange(50) < salient
    neuron = GIFNeuron(50, UnarySteps(1, 7), threshold, mask, RadixSteps(2, 7))
    planes = neuron.planes(x)
    assert len(planes) == (2 if salient else 1)
    for plane in planes:
        assert plane.counts.abs().max() <= plane.steps.capacity
        assert plane.zero is None
    error = (decode(planes, 50) - x).abs()
    quantum = torch.empty(4, 6, 50)
    limit = torch.empty(4, 6, 50)
    for plane in planes:
        channels = slice(None) if plane.channels is None else plane.channels
        quantum[..., channels] = plane.scale
        limit[..., channels] = plane.scale * plane.steps.capacity
    inside = x.abs() <= limit
    assert (error[inside] <= 0.5001 * quantum[inside]).all()
    torch.testing.assert_close(decode(planes, 50)[~inside].abs(), limit[~inside])
    if salient:  # split range: the loud channels do not coarsen the others
        assert planes[0].scale.max() < planes[1].scale.min() * 10


def test_a_shared_range_gives_salient_channels_finer_steps() -> None:
    x = torch.randn(5, 20)
    x[:, 0] = 30
    mask = torch.arange(20) < 4
    shared = GIFNeuron(20, UnarySteps(1, 7), PeakThreshold(), mask, UnarySteps(2, 7), split_range=False)
    ordinary, salient = shared.planes(x)
    assert torch.equal(ordinary.scale, 2 * salient.scale)
    torch.testing.assert_close(ordinary.scale, x.amax(-1, True) / 7)
    split, _ = GIFNeuron(20, UnarySteps(1, 7), PeakThreshold(), mask, UnarySteps(2, 7)).planes(x)
    assert (split.scale < ordinary.scale / 5).all()  # its own range: the loud channel does not coarsen the others


@pytest.mark.parametrize("split", [False, True])
def test_the_configuration_names_the_range(split: bool) -> None:
    x, mask = torch.randn(5, 20) * torch.where(torch.arange(20) == 0, 30.0, 1.0), torch.arange(20) < 4
    neuron = GIF(quanta=None, salient_share=0.2, split_range=split).make(20)
    neuron.select(mask)
    ordinary, salient = neuron.planes(x)
    assert torch.equal(ordinary.scale, 2 * salient.scale) is not split


def test_gradients_pass_unless_clipped() -> None:
    neuron = GIFNeuron(4, UnarySteps(1, 2), MeanThreshold(1))
    x = torch.tensor([[0.1, -0.2, 0.3, 9.0]], requires_grad=True)
    y = neuron(x)
    y.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0, 1.0, 0.0]]
    assert torch.equal(y.detach(), decode(neuron.planes(x), 4))


@pytest.mark.parametrize(
    "threshold,decibels,rate", [(MeanThreshold(2), 18.5, 1.99), (PeakThreshold(), 16.4, 1.53)], ids=str
)
def test_what_thresholds_cost_on_gaussian_inputs(threshold: MeanThreshold, decibels: float, rate: float) -> None:
    """The figures that `threshold` states."""
    x = torch.randn(256, 2048)
    [plane] = GIFNeuron(2048, UnarySteps(1, 7), threshold).planes(x)
    noise = (plane.values() - x).square().mean()
    assert float(10 * (x.square().mean() / noise).log10()) == pytest.approx(decibels, abs=0.15)
    assert float(plane.counts.abs().float().mean()) == pytest.approx(rate, abs=0.06)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_token_stays_bad_and_spoils_no_other(bad: float) -> None:
    x = torch.randn(2, 8)
    x[0, 3] = bad
    for neuron in (GIFNeuron(8), GIFNeuron(8, threshold=PeakThreshold())):
        y = neuron(x)
        assert y[0, 3].isnan() and y[1].isfinite().all()


def test_silence_and_half_precision() -> None:
    neuron = GIFNeuron(8)
    assert not neuron(torch.zeros(3, 8)).any()
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.randn(3, 8).to(dtype)
        assert neuron(x).dtype == dtype
        assert [plane.counts.tolist() for plane in neuron.planes(x)] == [
            plane.counts.tolist() for plane in neuron.planes(x.float())
        ]


@pytest.mark.parametrize("salient", [torch.zeros(3, dtype=torch.bool), torch.zeros(4)], ids=str)
def test_wrong_masks(salient: Tensor) -> None:
    with pytest.raises(ValueError, match="salient must be a bool mask"):
        GIFNeuron(4, salient=salient)
