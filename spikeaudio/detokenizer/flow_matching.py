"""Conditional flow matching: the path, the loss, the solver and guidance, as functions of a velocity field.

A velocity field v(x, t) carries noise x0 ~ N(0, 1) at t = 0 to data x1 at t = 1. On the straight conditional path

    x_t = t x1 + (1 - (1 - s) t) x0,        u = d x_t / d t = x1 - (1 - s) x0,        s = sigma_min

the network is trained to give u (mean squared error); a sample is the solution of dx/dt = v(x, t) by Euler's method.
The network sees time as an integer tau = floor(1000 t), computed in fp32 as the published code does, so that an ideal
integer can come out one lower (15 points: 499, not 500).

Classifier-free guidance evaluates the field with and without its condition and extrapolates:
v_null + scale (v - v_null); a scale of 1 is the conditional field itself.

Source: Lipman et al., arXiv:2210.02747; solvers as in MoonshotAI/Kimi-Audio (kimia_infer/models/detokenizer) with
torchdyn's Euler. The published loss is not open; the mean squared error is the standard one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TAU_PER_UNIT = 1000
"""Integer times per unit of flow time."""

CLEAN_TAU = 999
"""Integer time at which finished (clean) frames are shown to the network."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x (...,), tau: int64, broadcastable) -> velocity, the shape of x."""


def integer_time(t: Tensor) -> Tensor:
    """tau = floor(1000 t) in fp32. Any shape, float -> int64."""
    return (t.float() * TAU_PER_UNIT).long()


def conditional_path(x0: Tensor, x1: Tensor, t: Tensor, sigma_min: float = 1e-4) -> Tensor:
    """Point x_t between noise x0 and data x1, all of one shape; t in [0, 1] broadcasts against them."""
    return t * x1 + (1 - (1 - sigma_min) * t) * x0


def target_velocity(x0: Tensor, x1: Tensor, sigma_min: float = 1e-4) -> Tensor:
    """Time derivative of `conditional_path`; it does not depend on t."""
    return x1 - (1 - sigma_min) * x0


def flow_matching_loss(
    velocity: Velocity, x0: Tensor, x1: Tensor, tau: Tensor, weight: Tensor | None = None, sigma_min: float = 1e-4
) -> Tensor:
    """Mean squared error of the velocity field on the conditional path.

    Args:
        velocity: the field; called once with x_t and `tau`.
        x0: noise, (...,).
        x1: data, the shape of `x0`.
        tau: int64 times in [0, 1000), broadcastable against `x0`; t = tau / 1000 exactly as the network sees it.
        weight: broadcastable weights of the mean (a mask of valid positions); None counts everything once.
        sigma_min: width of the path at t = 1.

    Returns:
        Tensor: scalar loss.
    """
    t = tau.to(x0.dtype) / TAU_PER_UNIT
    error = velocity(conditional_path(x0, x1, t, sigma_min), tau) - target_velocity(x0, x1, sigma_min)
    if weight is None:
        return error.square().mean()
    weight = weight.to(error.dtype).expand_as(error)
    return (error.square() * weight).sum() / weight.sum()


def euler(velocity: Velocity, x0: Tensor, times: Tensor, step_sizes: Tensor) -> Tensor:
    """Integrate dx/dt = v by explicit Euler steps: x += step_sizes[k] * v(x, floor(1000 times[k])).

    Args:
        velocity: the field; called ``len(times)`` times with a 0-dimensional tau.
        x0: start, (...,).
        times: (K,) fp32 evaluation times in [0, 1].
        step_sizes: (K,) fp32.

    Returns:
        Tensor: the shape and dtype of `x0`.

    Raises:
        ValueError: if there is not one step size per time.
    """
    if times.ndim != 1 or times.shape != step_sizes.shape:
        raise ValueError(
            f"need one step size per time, got times {tuple(times.shape)}, step_sizes {tuple(step_sizes.shape)}"
        )
    x = x0
    for tau, size in zip(integer_time(times), step_sizes.tolist(), strict=True):
        x = x + size * velocity(x, tau)
    return x


def euler_grid(num_points: int) -> tuple[Tensor, Tensor]:
    """Times and step sizes of Euler's method on `num_points` even points in [0, 1]: num_points - 1 evaluations.

    torchdyn's rule, kept to the last bit: the time accumulates (t += dt, dt = next point - t).
    """
    points = _points(num_points)
    times, sizes = [], []
    t = points[0]
    for point in points[1:]:
        times.append(t)
        sizes.append(point - t)
        t = t + sizes[-1]
    return torch.stack(times), torch.stack(sizes)


def naive_euler_grid(num_points: int, sigma_min: float = 1e-4) -> tuple[Tensor, Tensor]:
    """The published "naive_euler": all points, t = 1 included, with equal steps (1 - sigma_min) / num_points."""
    points = _points(num_points)
    return points, torch.full_like(points, (1 - sigma_min) / num_points)


def random_chunks(total: int, shortest: int, longest: int, generator: torch.Generator | None = None) -> list[int]:
    """Chunk lengths for training that sum to `total`: one chunk half of the time, else evenly drawn ones.

    Only the last chunk may be shorter than `shortest`.
    """
    device = None if generator is None else generator.device
    if torch.rand((), generator=generator, device=device) < 0.5:
        return [total]
    lengths: list[int] = []
    while (rest := total - sum(lengths)) > 0:
        lengths.append(min(rest, int(torch.randint(shortest, longest + 1, (), generator=generator, device=device))))
    return lengths


def chunk_mask(chunk_lengths: Tensor) -> Tensor:
    """Who sees whom when all chunks of a sequence are trained in one forward pass.

    In streaming, chunk i is made from noise while it sees the *finished* chunks before it. The sequence [clean |
    noisy], clean being all chunks but the last, shows every noisy chunk exactly that:

        clean chunk i  sees  clean chunks <= i
        noisy chunk i  sees  clean chunks < i  and noisy chunk i

    Args:
        chunk_lengths: (n,) int64, lengths of the chunks.

    Returns:
        Tensor: bool (C + L, C + L) with L = sum of lengths and C = L - the last length; True where a row may look.
    """
    noisy = torch.repeat_interleave(torch.arange(len(chunk_lengths), device=chunk_lengths.device), chunk_lengths)
    clean = noisy[: len(noisy) - int(chunk_lengths[-1])]
    of_clean = torch.cat(
        (clean[:, None] >= clean, torch.zeros(len(clean), len(noisy), dtype=torch.bool, device=noisy.device)), 1
    )
    of_noisy = torch.cat((noisy[:, None] > clean, noisy[:, None] == noisy), 1)
    return torch.cat((of_clean, of_noisy))


def classifier_free_guidance(velocity: Tensor, null_velocity: Tensor, scale: float) -> Tensor:
    """Extrapolate from the unconditional to the conditional velocity; shapes equal."""
    return null_velocity + scale * (velocity - null_velocity)


def _points(num_points: int) -> Tensor:
    if num_points < 2:
        raise ValueError(f"num_points must be at least 2 (start and end), got {num_points}")
    return torch.linspace(0, 1, num_points)
