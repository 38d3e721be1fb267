"""Seeds: any whole number, or none for another result each time."""

import torch

_SPAN = 2**62  # what is added to a seed for the next sentence stays within int64


def as_seed(seed: int | None) -> int:
    """A seed that every generator takes.

    Args:
        seed: any whole number; None: drawn from torch's global generator.

    Returns:
        In [0, 2**62); seeds in that range stay as they are.

    Raises:
        ValueError: not a whole number.

    >>> as_seed(7), as_seed(2**62 + 7)
    (7, 7)
    """
    if seed is None:
        return int(torch.randint(_SPAN, ()))
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"a seed is a whole number or None, got {seed!r}")
    return seed % _SPAN


def other_seed(seed: int, number: int) -> int:
    """The seed of the `number`-th further attempt at what `seed` made; far from the seeds of other sentences."""
    return (seed + number * 0x9E3779B97F4A7C15) % _SPAN
