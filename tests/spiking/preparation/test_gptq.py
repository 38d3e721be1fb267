"""GPTQ against its definition and the published code."""

from functools import partial

import pytest
import torch
from torch import Tensor

from spikeaudio.spiking.preparation.gptq import GridFit, QuantizedWeight, gptq
from spikeaudio.spiking.preparation.hessian import Hessian, inverse_factor
from spikeaudio.spiking.weights.weight_grid import AffineGrid, TernaryGrid
from tests.fixtures.golden_cases import GoldenDir, cases

four_bits: GridFit = partial(AffineGrid.asymmetric, bits=4)


def layer(rows: int = 12, columns: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, correlated inputs with a strong and a silent channel, and their Hessian."""
    inputs = torch.randn(5, 40, columns) @ (torch.eye(columns) + 0.4 * torch.randn(columns, columns))
    inputs[..., 3] *= 8
    inputs[..., 7] = 0
    hessian = Hessian(columns)
    hessian.add(inputs)
    return 0.1 * torch.randn(rows, columns), inputs, hessian.matrix


def output_error(quantized: Tensor, weight: Tensor, inputs: Tensor) -> float:
    return float((inputs @ (quantized - weight).T).square().mean())


def test_hessian_does_not_depend_on_how_inputs_arrive() -> None:
    inputs = torch.randn(6, 10, 8)
    expected = 2 / 6 * sum(x.T @ x for x in inputs)
    for batches in ([inputs], list(inputs), [inputs[:1], inputs[1], inputs[2:]], [inputs.reshape(2, 3, 10, 8)]):
        hessian = Hessian(8)
        for batch in batches:
            hessian.add(batch)
        assert hessian.num_sequences == 6
        torch.testing.assert_close(hessian.matrix, expected, rtol=1e-5, atol=1e-5)
    for wrong in (torch.zeros(8), torch.zeros(3, 7), torch.zeros(0, 10, 8)):
        with pytest.raises(ValueError, match=r"inputs must be \(\.\.\., tokens, 8\)"):
            Hessian(8).add(wrong)


def test_factor_inverts_the_damped_hessian() -> None:
    _, _, hessian = layer()
    factor = inverse_factor(hessian, damping=0.1)
    damped = hessian.clone()
    damped[7, 7] = 1  # the silent channel
    damped += 0.1 * damped.diagonal().mean() * torch.eye(len(damped))
    assert torch.equal(factor, factor.triu())
    torch.testing.assert_close(factor.T @ factor @ damped, torch.eye(len(damped)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("block_size", [1, 5, 24, 128])
def test_gptq_is_optimal_brain_surgery_one_column_at_a_time(block_size: int) -> None:
    """Round column j, re-solve for the free ones, take j out of the inverse Hessian: literally, in float64."""
    weight, inputs, hessian = layer()
    weight[:, 7] = 0
    grid = four_bits(weight)
    damped = hessian.double()
    damped[7, 7] = 1
    damped += 0.01 * damped.diagonal().mean() * torch.eye(len(damped))
    inverse, rest, expected = damped.inverse(), weight.double(), torch.empty_like(weight)
    for j in range(weight.shape[1]):
        expected[:, j] = grid.quantize(rest[:, j : j + 1].float()).squeeze(1)
        error = (rest[:, j] - expected[:, j]) / inverse[j, j]
        rest = rest - torch.outer(error, inverse[j])
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j, :] = inverse[:, j] = 0
    quantized = gptq(weight, hessian, four_bits, block_size=block_size).values()
    torch.testing.assert_close(quantized, expected, rtol=0, atol=1e-6)
    assert output_error(quantized, weight, inputs) < 0.6 * output_error(grid.quantize(weight), weight, inputs)


def test_independent_inputs_leave_nothing_to_feed_back() -> None:
    weight = torch.randn(6, 10)
    for ordered in (False, True):
        quantized = gptq(weight, torch.diag(torch.rand(10) + 0.5), four_bits, activation_order=ordered)
        assert torch.equal(quantized.values(), four_bits(weight).quantize(weight))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_integers_scales_and_groups_are_the_weights(static: bool, ordered: bool) -> None:
    weight, inputs, hessian = layer()
    for fit in (four_bits, partial(AffineGrid.symmetric, bits=4)):
        order = {"static_groups": static, "activation_order": ordered}
        result = gptq(weight, hessian, fit, group_size=6, block_size=8, **order)
        assert isinstance(result, QuantizedWeight)
        assert result.codes.dtype == torch.int8 and result.codes.shape == weight.shape
        assert result.scale.shape == (12, 4) and result.groups.bincount().tolist() == [6, 6, 6, 6]
        assert (result.zero is None) == (fit is not four_bits)
        if static or not ordered:
            assert result.groups.tolist() == [c // 6 for c in range(24)]
        outputs = torch.zeros(*inputs.shape[:-1], 12)
        for group in range(4):  # as an integer execution does: one accumulator per group
            members = result.groups == group
            codes = result.codes[:, members].float()
            zero = torch.zeros(12, 1) if result.zero is None else result.zero[:, [group]]
            outputs += result.scale[:, group] * (inputs[..., members] @ (codes - zero).T)
        torch.testing.assert_close(outputs, inputs @ result.values().T, rtol=1e-4, atol=1e-4)
        assert output_error(result.values(), weight, inputs) < 0.1 * output_error(weight * 0, weight, inputs)


def test_silent_channels_become_zero() -> None:
    weight, _, hessian = layer()
    assert weight[:, 7].all()
    for ordered in (False, True):
        assert not gptq(weight, hessian, four_bits, activation_order=ordered).values()[:, 7].any()
    silence = gptq(weight, torch.zeros(24, 24), four_bits)
    assert not silence.values().any()


def test_wrong_input_is_refused() -> None:
    weight, _, hessian = layer()
    for value in (float("nan"), float("inf")):
        broken = hessian.clone()
        broken[2, 5] = value
        with pytest.raises(ValueError, match="must be finite"):
            gptq(weight, broken, four_bits)
        with pytest.raises(ValueError, match="must be finite"):
            gptq(weight * value, hessian, four_bits)
    for shape in ((24, 23), (23, 23), (24,)):
        with pytest.raises(ValueError, match="Hessian"):
            gptq(weight, torch.ones(shape), four_bits)
    with pytest.raises(ValueError, match="not positive definite"):
        gptq(weight, torch.ones(24, 24), four_bits, damping=0)
    with pytest.raises(ValueError, match="group_size 5 does not divide 24"):
        gptq(weight, hessian, four_bits, group_size=5)
    with pytest.raises(ValueError, match="block_size"):
        gptq(weight, hessian, four_bits, block_size=0)


def published_fit(quantizer: dict) -> GridFit:
    if quantizer.get("trits"):
        assert quantizer["sym"]
        return lambda weight: TernaryGrid(weight.abs().amax(1, keepdim=True), None)
    fit = partial(AffineGrid.symmetric if quantizer["sym"] else AffineGrid.asymmetric, bits=quantizer["bits"])
    return (lambda weight: fit(weight).shrunk(weight)) if quantizer.get("mse") else fit


def assert_same_weights(got: Tensor, expected: Tensor, name: str) -> None:
    """The fixture's bound: one rounding tie may change later columns."""
    assert ((got - expected).abs() <= 1e-5).float().mean() >= 0.99, name


@pytest.mark.golden
@pytest.mark.parametrize("pattern", ["w[0-9]_*", "ternary_*"])
def test_published_gptq(golden_dir: GoldenDir, pattern: str) -> None:
    for name, tensors, notes in cases(golden_dir("gptq_linear"), pattern):
        weight, inputs = tensors["weight"], tensors["calib"]
        hessian = Hessian(weight.shape[1])
        for block in inputs:
            hessian.add(block)
        torch.testing.assert_close(hessian.matrix, tensors["H"], rtol=1e-4, atol=1e-2)
        fit = published_fit(notes["quantizer"])
        assert_same_weights(fit(weight).quantize(weight), tensors["weight_rtn"], name)
        options = notes["fasterquant"]
        result = gptq(
            weight,
            hessian.matrix,
            fit,
            group_size=options.get("groupsize"),
            static_groups=options.get("static_groups", False),
            activation_order=options.get("actorder", False),
            block_size=32,
        )
        assert_same_weights(result.values(), tensors["weight_q"], name)
        assert output_error(result.values(), weight, inputs) == pytest.approx(notes["mse_gptq"], rel=0.01), name
        assert float((result.values() == 0).float().mean()) == pytest.approx(notes["zero_frac"], abs=0.01), name
