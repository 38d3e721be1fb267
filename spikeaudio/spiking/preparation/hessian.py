"""Second-order information of a linear layer: which columns can make up for the error of another one.

    H = 2/n sum X^T X + damping mean(diag H) I,        H^-1 = U^T U        (U upper triangular)

Source: Optimal Brain Surgeon as used by GPTQ (Frantar et al. 2022, arXiv 2210.17323).
"""

import torch
from torch import Tensor


class Hessian:
    """Running second moment of a linear layer's inputs, H = 2/n sum X^T X over n sequences.

    Args:
        num_channels: C.
        device: device of the matrix.

    Attributes:
        matrix: (C, C) float32.
        num_sequences: n.
    """

    def __init__(self, num_channels: int, device: torch.device | None = None) -> None:
        self.matrix = torch.zeros(num_channels, num_channels, device=device)
        self.num_sequences = 0

    @torch.no_grad()
    def add(self, inputs: Tensor) -> None:
        """Count inputs (..., S, C): every leading index is a sequence.

        Raises:
            ValueError: another number of channels, or no inputs at all.
        """
        columns = self.matrix.shape[0]
        if inputs.dim() < 2 or inputs.shape[-1] != columns or not inputs.numel():
            raise ValueError(f"inputs must be (..., tokens, {columns}) and not empty, got {tuple(inputs.shape)}")
        before = self.num_sequences
        self.num_sequences += inputs.shape[:-2].numel()
        flat = inputs.reshape(-1, columns).float() * (2 / self.num_sequences) ** 0.5
        self.matrix.mul_(before / self.num_sequences).addmm_(flat.T, flat)


def live_weight(weight: Tensor, hessian: Tensor) -> Tensor:
    """A float32 copy of weights (O, C) in which channels without any input, H[c, c] = 0, are 0.

    Raises:
        ValueError: shapes that do not belong together, NaN or infinity.
    """
    if weight.dim() != 2 or hessian.shape != (weight.shape[1], weight.shape[1]):
        raise ValueError(f"expected weights (O, C) and a Hessian (C, C), got {weight.shape} and {hessian.shape}")
    if not (weight.isfinite().all() and hessian.isfinite().all()):
        raise ValueError("weights and Hessian must be finite; check the calibration inputs for NaN and infinity")
    return weight.detach().float().masked_fill(hessian.diagonal() == 0, 0)


def inverse_factor(hessian: Tensor, damping: float = 0.01) -> Tensor:
    """U of the damped inverse: (C, C) -> (C, C) float32, upper triangular.

    Args:
        hessian: symmetric; a channel without any input counts as one of curvature 1.
        damping: share of the mean curvature that is added to every channel.

    Raises:
        ValueError: not positive definite in float32.
    """
    damped = hessian.float().clone()
    curvature = damped.diagonal()  # a view
    curvature.masked_fill_(curvature == 0, 1)
    curvature += damping * curvature.mean()
    lower, failed = torch.linalg.cholesky_ex(damped)
    factor: Tensor = lower
    if not failed:
        factor, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if failed:
        raise ValueError(f"Hessian is not positive definite with damping {damping}; raise it or calibrate longer")
    return factor
