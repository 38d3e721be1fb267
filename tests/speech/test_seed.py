"""Seeds: small ones stay, large and negative ones are folded, None draws."""

import pytest

from spikeaudio.speech.seed import usable_seed


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**48 - 1])
def test_usual_seeds_stay(seed: int) -> None:
    assert usable_seed(seed) == seed


@pytest.mark.parametrize("seed", [-1, 2**64, -(2**80), 10**40])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert 0 <= usable_seed(seed) < 2**48
    assert usable_seed(seed) == usable_seed(seed) != usable_seed(seed + 1)


def test_none_draws() -> None:
    assert usable_seed(None) != usable_seed(None)


@pytest.mark.parametrize("seed", ["1", 1.0, True])
def test_what_is_no_seed(seed: object) -> None:
    with pytest.raises(ValueError, match="seed must be an integer"):
        usable_seed(seed)  # type: ignore[arg-type]
