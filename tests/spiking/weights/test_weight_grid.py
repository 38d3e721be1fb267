"""Weight grids: their definitions on small tables, and SpikeLLM's quantizer with its gradients."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from spikeaudio.spiking.preparation.gptq import gptq
from spikeaudio.spiking.weights.weight_grid import (
    AffineGrid,
    ClippedGrid,
    TernaryGrid,
    WeightClipping,
    WeightGrid,
    fitted_grid,
    weight_range,
)
from tests.fixtures.golden_cases import GoldenDir, cases

Fit = Callable[[Tensor], WeightGrid]
FITS: dict[str, Fit] = {
    "asymmetric": lambda weight: AffineGrid.asymmetric(weight, 3, group_size=4),
    "symmetric": lambda weight: AffineGrid.symmetric(weight, 3, group_size=4),
    "shrunk": lambda weight: AffineGrid.symmetric(weight, 3, group_size=4).shrunk(weight),
    "least_squares": lambda weight: TernaryGrid.least_squares(weight, group_size=4),
    "clipped": lambda weight: ClippedGrid.symmetric(*weight_range(weight, 4), bits=3),
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS.keys())
def test_codes_stand_for_the_values(fit: Fit) -> None:
    weight = torch.randn(5, 12)
    grid = fit(weight)
    codes = grid.codes(weight)
    assert grid.scale.shape == (5, 3) and codes.dtype == torch.int8 and codes.shape == weight.shape
    assert -4 <= codes.min() and codes.max() <= 3
    assert torch.equal(grid.decode(codes), grid.quantize(weight))
    again = grid.quantize(grid.quantize(weight))
    torch.testing.assert_close(again, grid.quantize(weight), rtol=0, atol=0)
    by_group = [fit(part).quantize(part) for part in weight.split(4, dim=1)]
    assert torch.equal(torch.cat(by_group, dim=1), grid.quantize(weight))


def test_asymmetric_grid_reaches_both_ends() -> None:
    weight = torch.tensor([[-1.0, 0.0, 0.4, 2.0], [0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    grid = AffineGrid.asymmetric(weight, 2)
    torch.testing.assert_close(grid.scale, torch.tensor([[1.0], [1.0], [2 / 3]]), rtol=1e-6, atol=0)
    assert grid.zero is not None and grid.zero.tolist() == [[-1], [-2], [0]]
    assert grid.codes(weight).tolist() == [[-2, -1, -1, 1], [-2, -1, 0, 1], [0, 0, 0, 0]]
    assert grid.quantize(weight)[1].tolist() == weight[1].tolist()


@pytest.mark.parametrize("bits", range(2, 9))
def test_eight_bits_fit_int8(bits: int) -> None:
    weight = torch.randn(3, 64)
    for grid in (AffineGrid.asymmetric(weight, bits), AffineGrid.symmetric(weight, bits)):
        assert (grid.quantize(weight) - weight).abs().max() <= grid.scale.max() * 1.0001


def test_symmetric_grid_of_one_sign_is_not_cut_in_half() -> None:
    """GPTQ's own gives these weights a range of half their size and clips the rest."""
    weight = torch.tensor([[0.0, 1.0, 2.0, 7.0]])
    torch.testing.assert_close(AffineGrid.symmetric(weight, 4).quantize(weight), weight, rtol=0, atol=0.5)
    assert torch.equal(AffineGrid.symmetric(weight, 4).scale, AffineGrid.symmetric(-weight, 4).scale)


def test_shrinking_lowers_the_error_and_stays_in_range() -> None:
    weight = torch.randn(8, 64)
    grid = AffineGrid.symmetric(weight, 3, group_size=32)
    shrunk = grid.shrunk(weight)
    ratio = shrunk.scale / grid.scale
    assert 0.2 < ratio.min() and ratio.max() <= 1 and ratio.mean() < 0.95

    def error(grid: AffineGrid) -> Tensor:
        return (grid.quantize(weight) - weight).abs().pow(2.4).unflatten(1, (-1, 32)).sum(-1)

    assert (error(shrunk) <= error(grid)).all()


def test_ternary_amplitude_is_the_best_there_is() -> None:
    weight = torch.randn(4, 16)
    grid = TernaryGrid.least_squares(weight)
    error = (grid.quantize(weight) - weight).square().sum(1, keepdim=True)
    for factor in torch.linspace(0.2, 3, 500):
        other = TernaryGrid(grid.scale * factor, None)
        assert (error <= (other.quantize(weight) - weight).square().sum(1, keepdim=True) + 1e-5).all()


def test_ternary_threshold_is_half_the_amplitude() -> None:
    weight = torch.tensor([[-4.0, -2.1, -2.0, 0.0, 2.0, 2.1]])
    assert TernaryGrid(torch.full((1, 1), 4.0), None).codes(weight).tolist() == [[-1, -1, 0, 0, 0, 1]]
    assert not TernaryGrid.least_squares(torch.zeros(1, 3)).codes(torch.zeros(1, 3)).any()


def test_rounding_passes_gradients_where_nothing_clips() -> None:
    weight = torch.tensor([[-9.0, -0.3, 0.2, 0.9, 9.0]], requires_grad=True)
    AffineGrid(torch.ones(1, 1), None, bits=3).quantize(weight).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [[0, 1, 1, 1, 0]]


def test_clipping_starts_near_the_full_range_and_learns() -> None:
    weight = torch.randn(3, 8)
    clipping = WeightClipping(3, num_groups=2)
    for bound, full in zip(clipping(weight), weight_range(weight, 4), strict=True):
        torch.testing.assert_close(bound, full, rtol=0.02, atol=0)
    (ClippedGrid.symmetric(*clipping(weight), bits=2).quantize(weight) - weight).square().sum().backward()
    assert all(logit.grad is not None and logit.grad.any() for logit in clipping.parameters())


def test_wrong_sizes_are_refused() -> None:
    weight = torch.randn(4, 6)
    for wrong in (lambda: weight_range(weight, 4), lambda: weight_range(weight, 0)):
        with pytest.raises(ValueError, match="does not divide 6 inputs"):
            wrong()
    with pytest.raises(ValueError, match="weight must be"):
        weight_range(weight[0])
    with pytest.raises(ValueError, match="bits must be 2 to 8, got 9"):
        AffineGrid.symmetric(weight, 9)
    with pytest.raises(ValueError, match="does not fit"):
        AffineGrid.symmetric(weight, 4).codes(weight[:3])
    with pytest.raises(ValueError, match="does not fit"):
        AffineGrid.symmetric(weight, 4, group_size=3).codes(weight[:, :5])
    with pytest.raises(ValueError, match="do not fit"):
        WeightClipping(4, num_groups=4)(weight)


@pytest.mark.golden
def test_spikellm_weights_and_gradients(golden_dir: GoldenDir) -> None:
    for _, tensors, notes in cases(golden_dir("gif_quant"), "weight_*"):
        cfg = notes["cfg"]
        if not cfg.get("symmetric"):  # asymmetric weights would cost a spiking layer corrections
            continue
        weight = tensors["w"].clone().requires_grad_()
        by_group = (len(weight), -1)  # the reference lists groups of all rows in one column
        groups = tensors["scale"].numel() // len(weight)
        bounds: Tensor | tuple[Tensor, Tensor] = weight_range(weight, weight.shape[1] // groups)
        if cfg.get("lwc"):
            clipping = WeightClipping(len(weight), groups)
            clipping.low_logit.data = tensors["lowbound_logit"].reshape(by_group)
            clipping.high_logit.data = tensors["upbound_logit"].reshape(by_group)
            bounds = clipping(weight)
        grid = ClippedGrid.symmetric(*bounds, bits=cfg["n_bits"])
        torch.testing.assert_close(grid.scale, tensors["scale"].reshape(by_group), rtol=1e-5, atol=0)
        y = grid.quantize(weight)
        torch.testing.assert_close(y, tensors["y"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grid.decode(grid.codes(weight)), y, rtol=0, atol=0)
        (y * tensors["g"]).sum().backward()
        torch.testing.assert_close(weight.grad, tensors["dw"], rtol=1e-4, atol=1e-5)
        if cfg.get("lwc"):
            for logit, key in ((clipping.low_logit, "d_lowbound_logit"), (clipping.high_logit, "d_upbound_logit")):
                torch.testing.assert_close(logit.grad, tensors[key].reshape(by_group), rtol=1e-4, atol=1e-5)


def test_two_bits_are_ternary() -> None:
    weight = torch.randn(5, 64)
    assert set(fitted_grid(weight, 2, 16).codes(weight).unique().tolist()) == {-1, 0, 1}
    assert int(fitted_grid(weight, 4).codes(weight).abs().max()) > 1
    result = gptq(weight, torch.eye(64), partial(fitted_grid, bits=2))
    assert set(result.codes.unique().tolist()) == {-1, 0, 1}
