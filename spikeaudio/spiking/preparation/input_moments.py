"""Second moments of a layer's inputs around its neuron, and the linear filter that follows from them.

    x^ = decode(planes(x)),    H = 2/n sum x^ x^T,    N = 2/n sum (x - x^) x^T    over n tokens
    F  = argmin sum |x - F x^|^2 = 1 + N H^-1

on column vectors. A neuron's rounding and clipping are noise, but channels are correlated: F guesses the real
input from all spikes of a token, and costs nothing as W F takes W's place before rounding. It is the Wiener
filter; with few tokens per channel it fits their noise, hence the damping. GPTQ's own target is F = 1.
"""

import torch
from torch import Tensor

from spikeaudio.spiking.layers.linear import SpikingLinear
from spikeaudio.spiking.neurons.planes import decode
from spikeaudio.spiking.preparation.hessian import Hessian, inverse_factor


class InputMoments:
    """Second moments of a layer's inputs before and behind its neuron.

    Args:
        layer: whose neuron it is.
    """

    def __init__(self, layer: SpikingLinear) -> None:
        self._layer = layer
        self.hessian = Hessian(layer.in_features, layer.weight.device)
        self._noise = torch.zeros_like(self.hessian.matrix)

    def add(self, inputs: Tensor) -> None:
        """Count inputs (N, C)."""
        values = self._layer.transform(inputs).float()
        fired = decode(self._layer.neuron.planes(values), values.shape[-1])
        before = self.hessian.num_sequences
        self.hessian.add(fired.unsqueeze(-2))  # every token counts the same, however many a batch has
        count = self.hessian.num_sequences
        self._noise.mul_(before / count).addmm_((values - fired).T, fired, alpha=2 / count)

    def noise_filter(self, damping: float) -> Tensor:
        """F, (C, C) float32; ``weight @ F`` sees real inputs through spikes.

        Args:
            damping: share of the mean curvature added to H; the larger, the closer is F to the identity.

        Raises:
            ValueError: as `inverse_factor`.
        """
        factor = inverse_factor(self.hessian.matrix, damping)
        return torch.eye(len(factor), device=factor.device) + self._noise @ factor.T @ factor
