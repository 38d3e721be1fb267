"""Seeds: any integer is one, and none draws one."""

import secrets

_BITS = 48  # sentence and row numbers are added to a seed, and must not run over


def usable_seed(seed: int | None) -> int:
    """A seed that every random number generator here takes.

    Args:
        seed: any integer; None: a new one is drawn.

    Returns:
        An integer in [0, 2**48); small ones stay what they are.

    Raises:
        ValueError: `seed` is no integer.
    """
    if seed is None:
        return secrets.randbits(_BITS)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed must be an integer or None, got {seed!r}")
    return seed % 2**_BITS
