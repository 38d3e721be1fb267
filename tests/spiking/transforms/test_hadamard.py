"""Hadamard rotations are orthonormal for every size, and the fast transform is the dense matrix."""

import math

import pytest
import torch

from spikeaudio.spiking.transforms.hadamard import OnlineHadamard, hadamard_matrix, random_signs, rotate


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_small_size() -> None:
    for size in range(1, 301):
        signs = random_signs(size, seeded(size))
        dense = hadamard_matrix(size, signs)
        assert dense.dtype == torch.float64
        torch.testing.assert_close(dense @ dense.T, torch.eye(size).double(), rtol=0, atol=1e-13)
        values = torch.randn(3, size, generator=seeded(), dtype=torch.float64)
        torch.testing.assert_close(rotate(values, signs), values @ dense, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [1, 2, 4, 12, 20, 28, 36, 128, 148, 192, 224, 512, 640, 896, 1536])
def test_all_entries_have_one_magnitude(size: int) -> None:
    torch.testing.assert_close(hadamard_matrix(size).abs(), torch.full((size, size), size**-0.5).double())


@pytest.mark.parametrize("size", [224, 640, 3584, 4864, 8960, 14336, 18944])
def test_sizes_of_real_models_in_float32(size: int) -> None:
    signs = random_signs(size, seeded())
    values = torch.randn(6, size, generator=seeded(), dtype=torch.float64)
    values[0] = 0
    values[0, 5] = 1
    exact = rotate(values, signs)
    torch.testing.assert_close(exact @ exact.T, values @ values.T, rtol=0, atol=1e-9)
    torch.testing.assert_close(exact[0].abs(), torch.full((size,), size**-0.5).double())
    error = rotate(values.float(), signs).double() - exact
    assert error.abs().max() < 5e-6
    assert error.norm() / exact.norm() < 5e-7


@pytest.mark.parametrize(("size", "block"), [(7, 1), (6, 2), (92, 4), (172, 4), (11008, 256)])
def test_other_sizes_are_rotated_in_blocks(size: int, block: int) -> None:
    one = torch.zeros(size)
    one[size - 1] = 1
    touched = rotate(one).abs()
    torch.testing.assert_close(touched[-block:], torch.full((block,), 1 / math.sqrt(block)))
    assert not touched[:-block].any()


def test_an_outlier_spreads() -> None:
    values = torch.ones(1, 3584)
    values[0, 17] = 1000
    assert rotate(values, random_signs(3584, seeded())).abs().max() < 25


def test_shapes_dtypes_and_gradients() -> None:
    assert rotate(torch.zeros(0, 3, 24)).shape == (0, 3, 24)
    half = torch.randn(2, 3, 24, generator=seeded()).bfloat16()
    assert rotate(half).dtype == torch.bfloat16
    assert torch.equal(rotate(half), rotate(half.float()).bfloat16())
    values = torch.randn(2, 24, generator=seeded(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotate, (values,))


def test_module() -> None:
    signs = random_signs(24, seeded())
    values = torch.randn(2, 24, generator=seeded())
    module = OnlineHadamard(24, signs)
    assert torch.equal(module(values), rotate(values, signs))
    assert list(module.state_dict()) == ["signs"]
    assert not OnlineHadamard(24).state_dict()
    assert torch.equal(OnlineHadamard(24)(values), rotate(values))
    with pytest.raises(ValueError, match="expected 24 channels, got 12"):
        module(values[:, :12])


def test_signs_are_drawn_from_the_generator() -> None:
    assert torch.equal(random_signs(100, seeded(3)), random_signs(100, seeded(3)))
    assert not torch.equal(random_signs(100, seeded(3)), random_signs(100, seeded(4)))
    assert set(random_signs(100, seeded()).tolist()) == {-1.0, 1.0}


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 1 channel, got 0"):
        hadamard_matrix(0)
    with pytest.raises(ValueError, match=r"signs must have shape \(8,\), got \(4,\)"):
        rotate(torch.zeros(8), torch.ones(4))
    with pytest.raises(ValueError, match=r"expected floating values, got torch\.int64"):
        rotate(torch.zeros(8, dtype=torch.int64))


def test_a_first_call_in_inference_mode_leaves_gradients_possible() -> None:
    """The matrix of a base is kept between calls."""
    with torch.inference_mode():
        rotate(torch.randn(2, 44))
    x = torch.randn(2, 44, requires_grad=True)
    rotate(x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())
