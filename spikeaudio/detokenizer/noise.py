"""Normal noise as a function of (seed, absolute frame): the same frames get the same noise however they are reached.

A random number generator with a state makes the noise depend on the order of the calls. Here the numbers are addressed
by a counter, c = (frame * channels + channel) * 2 + j. SplitMix64 turns it into 64 even bits,

    z = mix(seed) + (c + 1) * 0x9E3779B97F4A7C15,     bits = mix(z)

(mix: two rounds of xor-shift and multiply), the top 53 bits give a uniform number u_j in (0, 1], and Box-Muller turns
two of them into one normal number, sqrt(-2 ln u_0) cos(2 pi u_1). Everything is integer or fp64 arithmetic on the
CPU, so that the device of the model does not change the voice.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

import math

import torch
from torch import Tensor


def frame_noise(seeds: Tensor, start_frames: Tensor, num_frames: int, num_channels: int) -> Tensor:
    """Standard normal noise of `num_frames` consecutive frames per row.

    Args:
        seeds: (B,) int64, one seed per row.
        start_frames: (B,) int64, absolute number of each row's first frame.
        num_frames: F.
        num_channels: C; part of the address, so it must not change within a stream.

    Returns:
        Tensor: (B, F, C) fp32 on the CPU.
    """
    seeds, start_frames = seeds.cpu(), start_frames.cpu()
    frames = start_frames[:, None] + torch.arange(num_frames)  # (B, F)
    first = (frames[:, :, None] * num_channels + torch.arange(num_channels)) * 2  # (B, F, C)
    key = _mix(seeds)[:, None, None]
    radius = (-2 * _uniform(key, first).log()).sqrt()
    angle = 2 * math.pi * _uniform(key, first + 1)
    return (radius * angle.cos()).float()


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit constant; products of int64 tensors wrap as unsigned ones do."""
    return value - (1 << 64) if value >> 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MULTIPLY_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = _signed(0x94D049BB133111EB)


def _shift_right(bits: Tensor, count: int) -> Tensor:
    """Logical shift; torch's own keeps the sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * _MULTIPLY_1
    bits = (bits ^ _shift_right(bits, 27)) * _MULTIPLY_2
    return bits ^ _shift_right(bits, 31)


def _uniform(key: Tensor, counter: Tensor) -> Tensor:
    """fp64 in (0, 1], never 0, so that its logarithm is finite."""
    bits = _mix(key + (counter + 1) * _GAMMA)
    return (_shift_right(bits, 11).double() + 1) * 2.0**-53
