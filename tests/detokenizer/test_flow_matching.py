"""The pure parts: path, loss, solvers, guidance, chunk mask, and the noise."""

import pytest
import torch

from spikeaudio.detokenizer.flow_matching import (
    chunk_mask,
    classifier_free_guidance,
    conditional_path,
    euler,
    euler_grid,
    flow_matching_loss,
    integer_time,
    naive_euler_grid,
    target_velocity,
)
from spikeaudio.detokenizer.noise import frame_noise


def test_path_runs_from_noise_to_data_at_the_target_velocity():
    x0, x1 = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    zero, one, t = torch.zeros(()), torch.ones(()), torch.tensor(0.3, dtype=torch.float64)
    torch.testing.assert_close(conditional_path(x0, x1, zero), x0)
    torch.testing.assert_close(conditional_path(x0, x1, one, sigma_min=0.0), x1)
    slope = (conditional_path(x0, x1, t + 1e-3) - conditional_path(x0, x1, t - 1e-3)) / 2e-3
    torch.testing.assert_close(slope, target_velocity(x0, x1))


def test_loss_is_zero_at_the_target_and_counts_only_weighted_positions():
    x0, x1 = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    tau = torch.randint(1000, (2, 1, 1))
    target = target_velocity(x0, x1)
    assert flow_matching_loss(lambda x, _: target, x0, x1, tau) == 0
    wrong_at_end = target + torch.tensor([0.0, 0, 0, 5])[:, None]
    weight = torch.tensor([1, 1, 1, 0])[None, :, None].bool()
    assert flow_matching_loss(lambda x, _: wrong_at_end, x0, x1, tau, weight) == 0
    torch.testing.assert_close(flow_matching_loss(lambda x, _: wrong_at_end, x0, x1, tau), torch.tensor(25 / 4))


def test_network_sees_the_drawn_integer_time():
    """floor(1000 * (tau / 1000)) in fp32 loses one for some tau; the loss must not go through it."""
    tau = torch.arange(1000)
    assert (integer_time(tau / 1000) != tau).any()
    seen = []
    flow_matching_loss(lambda x, t: seen.append(t) or x, torch.zeros(1000), torch.zeros(1000), tau)
    assert torch.equal(seen[0], tau)


@pytest.mark.parametrize("points, has_499", [(15, True), (30, False)])
def test_integer_time_is_floored_in_fp32(points, has_499):
    times, _ = euler_grid(points)
    assert len(times) == points - 1
    assert (499 in integer_time(times).tolist()) == has_499


def test_euler_is_exact_for_a_constant_field_and_first_order_for_a_linear_one():
    x0 = torch.randn(3, dtype=torch.float64)
    torch.testing.assert_close(euler(lambda x, _: torch.ones_like(x), x0, *euler_grid(7)), x0 + 1, rtol=0, atol=1e-6)
    errors = [(euler(lambda x, _: -x, x0, *euler_grid(n)) - x0 * torch.e**-1).abs().max() for n in (51, 101)]
    assert 1.8 < errors[0] / errors[1] < 2.2
    times, sizes = naive_euler_grid(10)
    assert len(times) == 10 and times[-1] == 1
    torch.testing.assert_close(sizes.sum(), torch.tensor(1 - 1e-4))


def test_solver_rejects_grids_that_do_not_fit():
    with pytest.raises(ValueError, match="one step size per time"):
        euler(lambda x, _: x, torch.zeros(1), torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="at least 2"):
        euler_grid(1)


def test_guidance():
    v, null = torch.tensor([3.0]), torch.tensor([1.0])
    assert [float(classifier_free_guidance(v, null, s)) for s in (0.0, 1.0, 2.0)] == [1.0, 3.0, 5.0]


def test_chunk_mask_of_two_chunks():
    seen = chunk_mask(torch.tensor([2, 1])).int().tolist()
    assert seen == [
        [1, 1, 0, 0, 0],  # clean chunk 0
        [1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0],  # noisy chunk 0
        [0, 0, 1, 1, 0],
        [1, 1, 0, 0, 1],  # noisy chunk 1
    ]
    assert chunk_mask(torch.tensor([3])).all()


def test_noise_is_standard_normal():
    noise = frame_noise(torch.tensor([0, 1]), torch.tensor([0, 0]), 5000, 80).double()  # 800,000 numbers
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert abs((noise**power).mean() - moment) < 0.05
    inside = [(noise.abs() < k).double().mean() for k in (1, 2, 3)]
    torch.testing.assert_close(
        torch.stack(inside), torch.tensor([0.6827, 0.9545, 0.9973], dtype=torch.float64), rtol=0, atol=2e-3
    )
    for a, b in ((noise[0], noise[1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1])):
        assert abs((a * b).mean()) < 5e-3  # seeds, frames and channels are independent


def test_noise_is_a_function_of_seed_and_frame():
    seeds = torch.tensor([7, 7, 8])
    whole = frame_noise(seeds, torch.tensor([0, 10, 0]), 40, 80)
    assert torch.equal(whole[0, 10:], whole[1, :30])
    assert not torch.equal(whole[0], whole[2])
    assert torch.equal(frame_noise(seeds[:1], torch.tensor([25]), 15, 80)[0], whole[0, 25:])
    late = frame_noise(torch.tensor([-3]), torch.tensor([50 * 3600 * 24]), 2, 80)  # a day in
    assert late.isfinite().all()


def test_noise_is_pinned():
    """The address space is part of every voice: these numbers must never change. SplitMix64 by hand, below."""

    def bits(seed: int, counter: int) -> int:
        def mix(z: int) -> int:
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
            return z ^ (z >> 31)

        return mix((mix(seed % 2**64) + (counter + 1) * 0x9E3779B97F4A7C15) % 2**64)

    def normal(seed: int, frame: int, channel: int, channels: int) -> float:
        first = (frame * channels + channel) * 2
        u = [torch.tensor(((bits(seed, first + j) >> 11) + 1) * 2.0**-53, dtype=torch.float64) for j in (0, 1)]
        return float((-2 * u[0].log()).sqrt() * (2 * torch.pi * u[1]).cos())

    got = frame_noise(torch.tensor([5, -1]), torch.tensor([3, 100]), 2, 4)
    expected = torch.tensor(
        [[[normal(s, f + i, c, 4) for c in range(4)] for i in (0, 1)] for s, f in ((5, 3), (-1, 100))]
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
