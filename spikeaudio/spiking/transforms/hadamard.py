"""Hadamard rotations: orthonormal matrices of entries +-1/sqrt(n), applied in n log n additions.

    x' = (x * signs) H,    H = base (x) [[1, 1], [1, -1]] (x) ... (x) [[1, 1], [1, -1]] / sqrt(n),    H H^T = 1

A vector's energy spreads evenly over all channels: a channel that is large alone becomes n small ones. `base` is
[[1]] where n is a power of two and else a matrix of order m = odd 2^j by one of
Paley's two constructions. They use the squares modulo a prime q: I, m = q + 1, q = 3 mod 4. II, m = 2 (q + 1), q = 1
mod 4. They give 12, 20, 28 (3584 = 28 * 128), 148 (18944 = 148 * 128) and most others. Where neither does, H consists
of equal blocks along the diagonal, of the largest power of two that divides n: 11008 = 43 blocks of 256. An odd n
other than 1 has blocks of one, which rotate nothing (random signs apart).

Source: QuaRot (arXiv 2404.00456). Paley 1933. Unlike QuaRot's code ours computes its matrices and contains none.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

_LARGEST_BASE = 256  # a base costs its order in multiplications per channel
_ROWS_AT_ONCE = 4096  # of a weight in float64


def random_signs(size: int, generator: torch.Generator | None = None) -> Tensor:
    """(size,) float64 of +1 and -1, on the generator's device."""
    device = None if generator is None else generator.device
    return 1.0 - 2.0 * torch.randint(2, (size,), generator=generator, device=device).double()


def hadamard_matrix(size: int, signs: Tensor | None = None) -> Tensor:
    """The dense form, for rotations that are multiplied into weights.

    Args:
        size: n >= 1.
        signs: (n,) of +-1, e.g. from `random_signs`; None: all +1.

    Returns:
        (n, n) float64, orthonormal; ``x @ hadamard_matrix(n, signs)`` is ``rotate(x, signs)``.

    Raises:
        ValueError: n below 1, or signs of another shape.
    """
    blocks, order, power = _factors(size)
    base = _base(order, torch.float64, torch.device("cpu")) / math.sqrt(order * power)
    matrix: Tensor = torch.kron(torch.eye(blocks, dtype=torch.float64), base)
    for _ in range(power.bit_length() - 1):
        matrix = torch.kron(matrix, torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64))
    if signs is None:
        return matrix
    _check_signs(signs, size)
    return signs.to(matrix)[:, None] * matrix


def rotate(values: Tensor, signs: Tensor | None = None) -> Tensor:
    """Rotate the last axis, by a fast Walsh-Hadamard transform.

    Args:
        values: (..., n), any floating dtype; half precisions are computed in float32.
        signs: (n,) of +-1, multiplied to the values first; None: all +1.

    Returns:
        (..., n), dtype of the values. Differentiable.

    Raises:
        ValueError: values that are not floating, no channel, or signs of another shape.
    """
    if not values.is_floating_point():
        raise ValueError(f"expected floating values, got {values.dtype}")
    size = values.shape[-1]
    blocks, order, power = _factors(size)
    work = values.to(torch.promote_types(values.dtype, torch.float32))
    if signs is not None:
        _check_signs(signs, size)
        work = work * signs.to(work)
    rows = values.numel() // size * blocks
    distance = 1
    while distance < power:
        pairs = work.reshape(rows * order, power // (2 * distance), 2, distance)
        first, second = pairs.unbind(2)
        work = torch.stack((first + second, first - second), dim=2)
        distance *= 2
    if order > 1:
        work = _base(order, work.dtype, work.device).T @ work.reshape(rows, order, power)
    return (work / math.sqrt(order * power)).reshape(values.shape).to(values.dtype)


def rotate_queries_keys(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """R3: (..., head_dim) after RoPE, rotated; all scores stay. Rotate what goes into the cache, too."""
    return rotate(query), rotate(key)


@torch.no_grad()
def rotate_inputs(linear: nn.Linear, signs: Tensor | None = None) -> None:
    """R4, the weights' side: W <- W H in float64; then put ``OnlineHadamard(in_features, signs)`` in front.

    Raises:
        ValueError: as `rotate`.
    """
    for start in range(0, linear.out_features, _ROWS_AT_ONCE):
        rows = linear.weight[start : start + _ROWS_AT_ONCE]
        rows.copy_(rotate(rows.double(), signs))


class OnlineHadamard(nn.Module):
    """`rotate` as a module, for the input of a linear layer after `rotate_inputs`.

    Args:
        size: n, channels of the last axis.
        signs: (n,) of +-1, kept as a buffer; None: all +1, and no state.

    Raises:
        ValueError: as `rotate`.
    """

    signs: Tensor | None

    def __init__(self, size: int, signs: Tensor | None = None) -> None:
        super().__init__()
        _factors(size)
        if signs is not None:
            _check_signs(signs, size)
        self.size = size
        self.register_buffer("signs", None if signs is None else signs.to(torch.get_default_dtype()))

    def forward(self, values: Tensor) -> Tensor:
        if values.shape[-1] != self.size:
            raise ValueError(f"expected {self.size} channels, got {values.shape[-1]}")
        return rotate(values, self.signs)

    def extra_repr(self) -> str:
        return f"{self.size}" if self.signs is None else f"{self.size}, signs"


def _check_signs(signs: Tensor, size: int) -> None:
    if signs.shape != (size,):
        raise ValueError(f"signs must have shape ({size},), got {tuple(signs.shape)}")


def _factors(size: int) -> tuple[int, int, int]:
    """Number of diagonal blocks, order of the base and power of two whose product is the size."""
    if size < 1:
        raise ValueError(f"a rotation needs at least 1 channel, got {size}")
    power = size & -size
    odd = size // power
    if odd == 1:
        return 1, 1, size
    order = 4 * odd  # Hadamard matrices have orders 1, 2 and multiples of 4
    while order <= min(size, _LARGEST_BASE) and size % order == 0:
        if _residues(order) is not None:
            return 1, order, size // order
        order *= 2
    return odd, 1, power


def _residues(order: int) -> tuple[int, int] | None:
    """Construction (1 or 2) and prime of a Paley matrix of this order; None: there is none."""
    for construction in (1, 2):
        prime, rest = order // construction - 1, 3 if construction == 1 else 1
        if order % construction == 0 and prime > 2 and prime % 4 == rest:
            if all(prime % divisor for divisor in range(2, math.isqrt(prime) + 1)):
                return construction, prime
    return None


@lru_cache
def _base(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`_paley` on a device; kept, as making it takes longer than using it. Not to be changed."""
    with torch.inference_mode(False), torch.device("cpu"):  # an inference tensor would stop gradients for good
        return _paley(order).to(device, dtype)


def _paley(order: int) -> Tensor:
    """Hadamard matrix of order 1 or of a Paley order, (order, order) float32, entries +-1."""
    found = _residues(order)
    if found is None:
        return torch.ones(1, 1)
    construction, prime = found
    squares = {number * number % prime for number in range(1, prime)}
    index = torch.arange(prime)
    character = torch.tensor([0.0] + [1.0 if number in squares else -1.0 for number in range(1, prime)])
    conference = torch.zeros(prime + 1, prime + 1)  # C C^T = q; skew for q = 3 mod 4, symmetric for q = 1 mod 4
    conference[0, 1:] = 1.0
    conference[1:, 0] = -1.0 if construction == 1 else 1.0
    conference[1:, 1:] = character[(index[:, None] - index) % prime]
    identity = torch.eye(prime + 1)
    if construction == 1:
        matrix = conference + identity
    else:
        matrix = torch.kron(conference, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        matrix = matrix + torch.kron(identity, torch.tensor([[1.0, -1.0], [-1.0, -1.0]]))
    return matrix
