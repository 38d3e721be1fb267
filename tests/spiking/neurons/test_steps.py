"""Step codes against their definitions, over every count that they carry."""

import pytest
import torch

from spikeaudio.spiking.neurons.steps import BitSteps, RadixSteps, StepCode, UnarySteps

LIMITED = [UnarySteps(1, 1), UnarySteps(1, 7), UnarySteps(2, 7), UnarySteps(4, 15), RadixSteps(2, 7), RadixSteps(3, 1)]


def carried(code: StepCode, counts: torch.Tensor) -> torch.Tensor:
    spikes = code.spikes(counts)
    return (code.weights(len(spikes)).reshape(-1, *[1] * counts.dim()) * spikes).sum(0)


@pytest.mark.parametrize("code", LIMITED, ids=str)
def test_every_count_within_capacity_is_carried(code: StepCode) -> None:
    counts = torch.arange(-code.capacity, code.capacity + 1, dtype=torch.int32)
    spikes = code.spikes(counts)
    assert spikes.shape == (code.time_steps, len(counts)) and spikes.dtype == counts.dtype
    assert spikes.abs().max() == code.levels
    assert torch.equal(carried(code, counts).to(torch.int32), counts)
    assert (spikes * counts >= 0).all()  # no spike against the sign
    beyond = torch.tensor([code.capacity + 1], dtype=torch.int32)
    assert carried(code, beyond) != beyond  # and no more than that


@pytest.mark.parametrize("steps,levels", [(2, 15), (3, 7), (1, 3)])
def test_unary_steps_are_the_neuron_s_dynamics(steps: int, levels: int) -> None:
    counts = torch.arange(-steps * levels, steps * levels + 1, dtype=torch.int32)
    potential, fired = counts.clone(), []
    for _ in range(steps):
        fired.append(potential.clamp(-levels, levels))
        potential = potential - fired[-1]
    assert torch.equal(UnarySteps(steps, levels).spikes(counts), torch.stack(fired))


@pytest.mark.parametrize("largest", [0, 1, 2, 50, 128])
def test_bits_carry_everything(largest: int) -> None:
    code = BitSteps()
    counts = torch.arange(-largest, largest + 1, dtype=torch.int32)
    assert torch.equal(carried(code, counts).to(torch.int32), counts)
    assert code.spikes(counts).abs().max() <= 1


def test_no_counts_at_all() -> None:
    for code in (*LIMITED, BitSteps()):
        assert code.spikes(torch.zeros(3, 0, dtype=torch.int32)).shape[1:] == (3, 0)


@pytest.mark.parametrize("make", [lambda: UnarySteps(0, 7), lambda: RadixSteps(2, 0), lambda: RadixSteps(9, 15)])
def test_impossible_sizes(make) -> None:
    with pytest.raises(ValueError, match=r"need time_steps >= 1|leave no room"):
        make()
