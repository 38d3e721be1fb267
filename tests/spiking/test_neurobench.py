"""Our counts against NeuroBench's own package, where it counts right: spikes of -1, 0 and 1 in front of plain layers.

It needs ``pip install neurobench``, which is no extra of ours: some of its dependencies are under the GPL and come as
sources only.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikeaudio.neuromorphic.energy import report
from spikeaudio.spiking.counting import counting
from spikeaudio.spiking.layers.linear import SpikingLinear
from spikeaudio.spiking.neurons.neuron import SpikingNeuron
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.neurons.steps import UnarySteps

pytest.importorskip("neurobench", reason="neurobench is not installed")


class Fire(SpikingNeuron):
    """Spikes of size 1 where `rule` says so; its output is the spikes themselves."""

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def planes(self, values: Tensor) -> list[Plane]:
        return [Plane(self.rule(values).to(torch.int32), torch.ones(*values.shape[:-1], 1), UnarySteps(1, 1))]


@pytest.mark.parametrize(
    "rule", [lambda x: x > 0.3, lambda x: (x > 0.3).int() - (x < -0.3).int()], ids=["binary", "ternary"]
)
def test_accumulates_and_dense_operations(rule: Callable[[Tensor], Tensor]) -> None:
    from neurobench.hooks.layer import LayerHook
    from neurobench.metrics.workload import SynapticOperations
    from neurobench.models import TorchModel

    layers = [nn.Linear(12, 9), nn.Linear(9, 5)]
    with torch.no_grad():
        for layer in layers:
            layer.weight[torch.rand(layer.weight.shape) < 0.4] = 0
    x, samples = torch.randn(20, 12), 20
    theirs = TorchModel(nn.Sequential(Fire(rule), layers[0], Fire(rule), layers[1]))
    for layer in theirs.connection_layers():
        theirs.connection_hooks.append(LayerHook(layer))
    with torch.no_grad():
        expected_out = theirs(x)
    expected = SynapticOperations()(theirs, expected_out, (x, None))

    ours = nn.Sequential(*(SpikingLinear.of(layer, Fire(rule)) for layer in layers))
    with counting(ours) as count, torch.no_grad():
        assert torch.equal(ours(x), expected_out)
    counted = report(ours, count, tokens=samples)["SynapticOperations"]
    assert counted == pytest.approx(expected)
    assert counted["Effective_ACs"] > 0 and counted["Effective_MACs"] == 0
