"""Saliency by definition, against SpikeLLM's published scores, and one mask for the readers of one input."""

import pytest
import torch

from spikeaudio.spiking.preparation.saliency import FirstOrderSaliency, PeakSaliency, RandomSaliency, salient_mask
from tests.fixtures.golden_cases import GoldenDir, cases


@pytest.mark.golden
def test_spikellm_scores_and_masks(golden_dir: GoldenDir) -> None:
    for _, tensors, notes in cases(golden_dir("gif_quant"), "linear_*"):
        saliency = FirstOrderSaliency(tensors["weight"])
        for batch in tensors["calib"]:
            saliency.update(batch)
        torch.testing.assert_close(saliency.scores().float(), tensors["saliency"], rtol=1e-4, atol=1e-5)
        share = float(tensors["mask_salient"].float().mean())
        assert share == pytest.approx(1 - notes["low_p"], abs=0.02)
        mask = salient_mask([tensors["saliency"]], share + 1e-9)
        assert torch.equal(mask, tensors["mask_salient"])


def test_first_order_is_gradient_times_input() -> None:
    weight, x = torch.randn(5, 7), torch.randn(3, 4, 7, requires_grad=True)
    (0.5 * (x @ weight.T).square().sum()).backward()
    saliency = FirstOrderSaliency(weight)
    saliency.update(x[:2])
    saliency.update(x[2:])
    torch.testing.assert_close(saliency.scores().float(), (x * x.grad).sum((0, 1)) / 12, rtol=1e-4, atol=1e-5)


def test_peak_and_random() -> None:
    peak = PeakSaliency(3)
    peak.update(torch.tensor([[1.0, -5.0, 2.0]]))
    peak.update(torch.tensor([[-3.0, 4.0, 2.0]]))
    assert peak.scores().tolist() == [3, 5, 2]
    assert torch.equal(RandomSaliency(9, 1).scores(), RandomSaliency(9, 1).scores())
    assert not torch.equal(RandomSaliency(9, 1).scores(), RandomSaliency(9, 2).scores())


def test_readers_of_one_input_share_one_mask() -> None:
    scores = [torch.tensor([1.0, 9.0, 5.0, 0.0]), torch.tensor([0.1, 0.2, 0.9, 0.0])]
    assert salient_mask(scores, 0.5).tolist() == [False, True, True, False]
    assert not salient_mask(scores, 0.0).any()
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\), got 1"):
        salient_mask(scores, 1)
    with pytest.raises(ValueError, match="not finite"):
        salient_mask([torch.tensor([1.0, float("nan")])], 0.5)
