"""BigVGAN: exact streaming for any pushing, resets, weight norm, files, bad input."""

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.parametrizations import weight_norm

from spikeaudio.vocoder.bigvgan import BigVGAN, fold_weight_norm
from spikeaudio.vocoder.configuration import BigVGANConfig
from spikeaudio.vocoder.piece import LineState, Piece

BOUND = 1e-5
MELS = 6
SIZES = {
    "num_mels": MELS,
    "upsample_rates": [3, 2],
    "upsample_kernel_sizes": [7, 4],
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": [3, 5],
    "resblock_dilation_sizes": [[1, 3], [1, 2]],
    "hop_size": 6,
}


def make(**changes) -> BigVGAN:
    torch.manual_seed(0)
    model = BigVGAN(BigVGANConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that every sample hears all that it can hear
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def push(model: BigVGAN, mel: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    state = model.init_state(mel.shape[0])
    pieces = mel.split(lengths, dim=-1)
    return torch.cat([model.step(piece, state, last=k == len(pieces) - 1) for k, piece in enumerate(pieces)], dim=-1)


def lengths_of(kind: int | str, frames: int) -> list[int]:
    if kind == "empty between":
        return [frames // 2, 0, 0, frames - frames // 2, 0]
    return [kind] * (frames // kind) + [frames % kind]


@pytest.mark.parametrize(
    "changes", [{}, {"upsample_rates": [2, 2, 2], "upsample_kernel_sizes": [2, 4, 6], "hop_size": 8}]
)
@pytest.mark.parametrize("frames", [0, 1, 45])
def test_any_pushing_gives_the_same_wav(changes, frames):
    model, mel = make(**changes), torch.randn(2, MELS, frames)
    wav = model.decode(mel)
    assert wav.shape == (2, model.config.hop_length * frames)
    assert not frames or wav.std() > 1e-3
    for kind in (1, 33, "empty between"):
        torch.testing.assert_close(push(model, mel, lengths_of(kind, frames)), wav, rtol=0, atol=BOUND)


@pytest.mark.parametrize("rate,kernel", [(5, 9), (2, 4), (3, 5), (2, 2), (2, 12)])
@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("pieces", [[13], [1] * 13, [4, 9]])
def test_upsample_is_the_cropped_transposed_convolution(rate, kernel, replicate, pieces):
    x, weight = torch.randn(2, 3, 13), torch.randn(3, 4, kernel)
    crop, edge = (kernel - rate) // 2, 9
    padded = F.pad(x, (edge, edge), "replicate" if replicate else "constant")
    expected = F.conv_transpose1d(padded, weight, stride=rate)[..., crop + rate * edge :][..., : 13 * rate]
    state = LineState([], torch.zeros(2, dtype=torch.long), (), x.dtype)
    parts = x.split(pieces, -1)
    out = [
        Piece(state, k == len(parts) - 1).upsample(p, weight, rate=rate, replicate=replicate)
        for k, p in enumerate(parts)
    ]
    torch.testing.assert_close(torch.cat(out, -1), expected, rtol=0, atol=BOUND)


def test_samples_come_as_early_as_they_can():
    """NaN reaches all that a frame reaches: the first sample that does not come is the first that needs the future."""
    model, mel = make(), torch.randn(1, MELS, 60)
    ready = model.step(mel[..., :40], model.init_state()).shape[1]
    mel[..., 40:] = torch.nan
    with torch.no_grad():
        assert model(mel).isnan()[0].nonzero()[0].item() == ready > 0


def test_batch_equals_singles():
    model, mel = make(), torch.randn(3, MELS, 12)
    singles = torch.cat([model.decode(row[None]) for row in mel])
    torch.testing.assert_close(model.decode(mel), singles, rtol=0, atol=BOUND)


def test_clone_continues_on_its_own_and_last_makes_new():
    model, mel = make(), torch.randn(1, MELS, 60)
    state = model.init_state()
    head = model.step(mel[..., :45], state)
    copy = state.clone()
    model.step(torch.randn(1, MELS, 9), state)
    state.reset()
    tail = model.step(mel[..., 45:], copy, last=True)
    torch.testing.assert_close(torch.cat([head, tail], dim=-1), model.decode(mel), rtol=0, atol=BOUND)
    for used in (state, copy):
        torch.testing.assert_close(model.step(mel, used, last=True), model.decode(mel), rtol=0, atol=BOUND)


@pytest.mark.parametrize("begun, step", [(1, 6), (4, 50), (30, 1), (30, 7)])
def test_reset_of_one_row(begun, step):
    """The other row does not notice; the reset one is silent up to the reset and a fresh stream after it."""
    model = make()
    mel, fresh = torch.randn(2, MELS, 50), torch.randn(1, MELS, 50 - begun)
    state = model.init_state(2)
    out = [model.step(mel[..., :begun], state)]
    state.reset([1])
    before = out[0].shape[-1]
    pieces = torch.cat([mel[:1, :, begun:], fresh]).split(step, dim=-1)
    out += [model.step(piece, state, last=index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    wav, start = torch.cat(out, dim=-1), begun * model.config.hop_length
    torch.testing.assert_close(wav[0], model.decode(mel)[0], rtol=0, atol=BOUND)
    assert (wav[1, before:start] == 0).all()
    torch.testing.assert_close(wav[1, start:], model.decode(fresh)[0], rtol=0, atol=BOUND)


def test_forward_is_differentiable_decode():
    model, mel = make(), torch.randn(2, MELS, 12)
    wav = model(mel)
    torch.testing.assert_close(wav.detach(), model.decode(mel), rtol=0, atol=0)
    wav.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_weight_norm_is_folded():
    for layer in (torch.nn.Conv1d(4, 6, 3), torch.nn.ConvTranspose1d(4, 6, 3)):
        normed = weight_norm(layer)
        gain, direction = normed.parametrizations.weight.original0, normed.parametrizations.weight.original1
        with torch.no_grad():
            gain.mul_(torch.rand_like(gain) + 0.5)
            folded = fold_weight_norm({"a.weight_g": gain, "a.weight_v": direction, "a.bias": layer.bias})
        assert set(folded) == {"a.weight", "a.bias"}
        torch.testing.assert_close(folded["a.weight"], normed.weight)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a.weight_v": torch.ones(2, 3)}, "a.weight_v has no a.weight_g"),
        ({"a.weight_g": torch.ones(2, 1)}, "a.weight_g has no a.weight_v"),
        ({"a.weight_g": torch.ones(3, 1), "a.weight_v": torch.ones(2, 3)}, "one number per row"),
    ],
)
def test_bad_weight_norm(weights, message):
    with pytest.raises(ValueError, match=message):
        fold_weight_norm(weights)


def test_saved_and_loaded_bit_equal(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    loaded, info = BigVGAN.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert all(getattr(loaded.config, key) == getattr(model.config, key) for key in SIZES)


def test_a_new_model_has_its_filters_and_the_published_start():
    model = BigVGAN(BigVGANConfig(**SIZES))
    assert model.activation_post.upsample.filter.sum() == pytest.approx(1)
    assert model.activation_post.act.alpha.tolist() == [0.0, 0.0]
    assert BigVGAN(BigVGANConfig(**SIZES, snake_logscale=False)).activation_post.act.beta.tolist() == [1.0, 1.0]


def test_snake_without_beta_and_tanh():
    model = make(activation="snake", use_tanh_at_final=True, use_bias_at_final=True)
    assert not any(name.endswith("beta") for name, _ in model.named_parameters())
    assert model.decode(torch.randn(1, MELS, 5) * 30).abs().max() <= 1


BAD_MELS = {
    "bands": (torch.zeros(1, MELS + 1, 5), rf"\(B, {MELS}, F\).*got \(1, {MELS + 1}, 5\)"),
    "two dimensions": (torch.zeros(MELS, 5), rf"got \({MELS}, 5\)"),
    "no rows": (torch.zeros(0, MELS, 5), "B >= 1"),
    "half precision": (torch.zeros(1, MELS, 5, dtype=torch.float16), "float32 like the weights, got torch.float16"),
    "NaN": (torch.full((1, MELS, 5), float("nan")), "NaN or infinite"),
}


@pytest.mark.parametrize("case", BAD_MELS)
def test_bad_mel(case):
    mel, message = BAD_MELS[case]
    model = make()
    with pytest.raises(ValueError, match=message):
        model.decode(mel)
    with pytest.raises(ValueError, match=message):
        model.step(mel, model.init_state())


def test_bad_state():
    model, mel = make(), torch.zeros(2, MELS, 5)
    with pytest.raises(ValueError, match="mel has 2 rows, but the state was made for 3"):
        model.step(mel, model.init_state(3))
    with pytest.raises(ValueError, match="made by a vocoder of other sizes"):
        model.step(mel, make(upsample_initial_channel=16).init_state(2))
    with pytest.raises(ValueError, match=r"state was made for torch\.bfloat16"):
        model.step(mel, make().to(torch.bfloat16).init_state(2))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        model.init_state(0)
    with pytest.raises(ValueError, match=r"rows must lie in 0\.\.1, got \[2\]"):
        model.init_state(2).reset([2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_mel": 80}, r"unknown keys \['num_mel'\] for BigVGANConfig.*num_mels"),
        ({"resblock": "2"}, "resblock must be '1', got '2'"),
        ({"activation": "relu"}, "'snakebeta' or 'snake', got 'relu'"),
        ({"hop_size": 7}, "make 6 samples of a frame, but hop_size is 7"),
        ({"upsample_kernel_sizes": [7]}, "one upsample_kernel_size per rate"),
        ({"upsample_kernel_sizes": [6, 4]}, "larger by an even number"),
        ({"resblock_kernel_sizes": [3, 4]}, "odd resblock_kernel_sizes"),
        ({"resblock_dilation_sizes": [[1, 0], [1, 2]]}, "at least 1"),
        ({"upsample_initial_channel": 6}, "multiple of 4"),
        ({"win_size": 2048}, "n_fft must hold"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(ValueError, match=message):
        BigVGANConfig(**{**SIZES, **changes})


def test_published_sizes_on_the_meta_device():
    """241.1 M parameters; 1206 published keys are ours plus one weight_g per folded weight."""
    with torch.device("meta"):
        model = BigVGAN(BigVGANConfig())
    normed = [name for name in model.state_dict() if name.endswith(".weight")]
    assert len(model.state_dict()) + len(normed) == 1206
    assert 240e6 < sum(parameter.numel() for parameter in model.parameters()) < 242e6
