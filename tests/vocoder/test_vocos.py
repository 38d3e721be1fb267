"""VocosVocoder: the published modules' arithmetic, exact streaming for any pushing, resets, files, bad input."""

import json

import pytest
import torch
from safetensors.torch import save_file

from spikeaudio.vocoder.configuration import VocosConfig
from spikeaudio.vocoder.vocos import VocosVocoder

BOUND = 1e-5
LAYERS = 2
MELS = 10
# padding, n_fft, hop
SIZES = [("same", 32, 8), ("center", 32, 8), ("same", 30, 8), ("center", 20, 10), ("same", 20, 10)]


def make(padding: str = "same", n_fft: int = 32, hop: int = 8) -> VocosVocoder:
    torch.manual_seed(0)
    sizes = {"num_mels": MELS, "hidden_size": 16, "intermediate_size": 24, "num_layers": LAYERS}
    model = VocosVocoder(VocosConfig(**sizes, n_fft=n_fft, hop_length=hop, padding=padding)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases too: zeros would hide a missing mask
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def push(model: VocosVocoder, mel: torch.Tensor, lengths: list[int], last: bool = True) -> torch.Tensor:
    state = model.init_state(mel.shape[0])
    pieces = mel.split(lengths, dim=-1)
    out = [model.step(piece, state, last=last and index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    return torch.cat(out, dim=-1)


def schedule(kind: int | str, frames: int) -> list[int]:
    if kind == "empty between":
        return [frames // 2, 0, 0, frames - frames // 2, 0]
    if kind == "ragged":
        lengths, left = [], frames
        while left:
            lengths.append(min(left, int(torch.randint(0, 12, ()))))
            left -= lengths[-1]
        return lengths or [0]
    full, rest = divmod(frames, kind)
    return [kind] * full + [rest]


@pytest.mark.parametrize(("padding", "n_fft", "hop"), SIZES)
@pytest.mark.parametrize("frames", [2, 3, 50])
def test_decode_is_the_published_forward(padding, n_fft, hop, frames):
    model, mel = make(padding, n_fft, hop), torch.randn(3, MELS, frames)
    with torch.no_grad():
        published = model.head(model.backbone(mel))
    torch.testing.assert_close(model.decode(mel), published, rtol=0, atol=BOUND)


@pytest.mark.parametrize(("padding", "n_fft", "hop"), SIZES)
@pytest.mark.parametrize("frames", [0, 1, 2, 40])
def test_any_pushing_gives_the_same_wav(padding, n_fft, hop, frames):
    model, mel = make(padding, n_fft, hop), torch.randn(2, MELS, frames)
    wav = model.decode(mel)
    assert wav.shape == (2, hop * (frames if padding == "same" else max(0, frames - 1)))
    for kind in (1, 4, 7, 33, "ragged", "empty between"):
        torch.testing.assert_close(push(model, mel, schedule(kind, frames)), wav, rtol=0, atol=BOUND)


def test_default_sizes_give_480_samples_per_frame():
    model = VocosVocoder(VocosConfig()).eval()
    assert model.decode(torch.randn(1, 80, 1)).shape == (1, 480)
    mel = torch.randn(1, 80, 30)
    torch.testing.assert_close(push(model, mel, [4] * 7 + [2]), model.decode(mel), rtol=0, atol=BOUND)


def test_samples_come_as_early_as_the_look_ahead_allows():
    model = make()
    state = model.init_state()
    frames_in, samples_out = 0, 0
    while not samples_out:
        samples_out = model.step(torch.randn(1, MELS, 1), state).shape[-1]
        frames_in += 1
    # trim of 12 samples: the second spectral frame completes the first 4 samples
    assert frames_in == model.config.look_ahead_frames + 2


@pytest.mark.parametrize("padding", ["same", "center"])
def test_output_does_not_depend_on_frames_beyond_the_look_ahead(padding):
    model, mel = make(padding), torch.randn(1, MELS, 60)
    other = mel.clone()
    other[..., 40:] += 1
    reach = model.config.look_ahead_frames + model.config.n_fft // model.config.hop_length
    same = (40 - reach) * model.config.hop_length
    torch.testing.assert_close(model.decode(other)[:, :same], model.decode(mel)[:, :same], rtol=0, atol=BOUND)


def test_batch_equals_singles():
    model, mel = make(), torch.randn(3, MELS, 25)
    singles = torch.cat([model.decode(row[None]) for row in mel])
    torch.testing.assert_close(model.decode(mel), singles, rtol=0, atol=BOUND)


def test_two_streams_on_one_model():
    model, mels = make(), torch.randn(2, 1, MELS, 40)
    states = [model.init_state() for _ in mels]
    out: list[list[torch.Tensor]] = [[], []]
    for start in range(0, 40, 5):
        for index, mel in enumerate(mels):
            out[index].append(model.step(mel[..., start : start + 5], states[index], last=start == 35))
    for index, mel in enumerate(mels):
        torch.testing.assert_close(torch.cat(out[index], dim=-1), model.decode(mel), rtol=0, atol=BOUND)


def test_state_is_new_after_last():
    model, mel = make(), torch.randn(2, MELS, 30)
    state = model.init_state(2)
    for _ in range(2):
        out = torch.cat([model.step(mel[..., :17], state), model.step(mel[..., 17:], state, last=True)], dim=-1)
        torch.testing.assert_close(out, model.decode(mel), rtol=0, atol=BOUND)


def test_clone_continues_on_its_own():
    model, mel = make(), torch.randn(1, MELS, 40)
    state = model.init_state()
    head = model.step(mel[..., :25], state)
    copy = state.clone()
    model.step(torch.randn(1, MELS, 9), state)
    state.reset()
    tail = model.step(mel[..., 25:], copy, last=True)
    torch.testing.assert_close(torch.cat([head, tail], dim=-1), model.decode(mel), rtol=0, atol=BOUND)


def test_reset_of_all_rows():
    model, mel = make(), torch.randn(2, MELS, 20)
    state = model.init_state(2)
    for rows in (None, [0, 1], torch.tensor([1, 0])):
        model.step(torch.randn(2, MELS, 31), state)
        state.reset(rows)
        torch.testing.assert_close(model.step(mel, state, last=True), model.decode(mel), rtol=0, atol=BOUND)


@pytest.mark.parametrize("padding", ["same", "center"])
@pytest.mark.parametrize("begun", [1, 4, 11, 30])
@pytest.mark.parametrize("step", [1, 6, 50])
def test_reset_of_one_row(padding, begun, step):
    """The other row does not notice; the reset one is silent up to the reset and a fresh stream after it."""
    model = make(padding)
    mel, fresh = torch.randn(2, MELS, 60), torch.randn(1, MELS, 60 - begun)
    expected = model.decode(mel)
    state = model.init_state(2)
    out = [model.step(mel[..., :begun], state)]
    state.reset([1])
    before = out[0].shape[-1]
    mel = torch.cat([mel[:1, :, begun:], fresh])
    pieces = mel.split(step, dim=-1)
    out += [model.step(piece, state, last=index == len(pieces) - 1) for index, piece in enumerate(pieces)]
    wav, start = torch.cat(out, dim=-1), begun * model.config.hop_length
    torch.testing.assert_close(wav[0], expected[0], rtol=0, atol=BOUND)
    assert (wav[1, before:start] == 0).all()
    torch.testing.assert_close(wav[1, start:], model.decode(fresh)[0], rtol=0, atol=BOUND)


def test_forward_is_differentiable_decode():
    model, mel = make(), torch.randn(2, MELS, 12)
    wav = model(mel)
    torch.testing.assert_close(wav.detach(), model.decode(mel), rtol=0, atol=0)
    wav.square().sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.head(model.backbone(mel)).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_step_keeps_no_graph():
    model = make()
    state = model.init_state()
    assert not model.step(torch.randn(1, MELS, 30), state).requires_grad
    assert not any(tensor.requires_grad for tensor in (*state.contexts, *state.residuals, state.overlap))


def test_magnitude_limit():
    """Mels far outside speech give a loud but finite waveform."""
    assert torch.isfinite(make().decode(torch.full((1, MELS, 20), 1e4))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_loaded_bit_equal(tmp_path, dtype):
    model, mel = make().to(dtype), torch.randn(1, MELS, 20, dtype=dtype)
    model.save_pretrained(tmp_path)
    loaded, info = VocosVocoder.from_pretrained(tmp_path, dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert loaded.config.to_diff_dict().items() >= {"num_mels": MELS, "n_fft": 32}.items()
    wav = loaded.decode(mel)
    assert wav.dtype == torch.float32
    if dtype == torch.float32:
        assert torch.equal(wav, model.decode(mel))


def test_window_is_exact_after_a_rounded_checkpoint(tmp_path):
    make().to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = VocosVocoder.from_pretrained(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(loaded.head.istft.window, torch.hann_window(32), rtol=0, atol=0)


BAD_MELS = {
    "channels": (torch.zeros(1, MELS + 1, 5), rf"\(B, {MELS}, F\).*got \(1, {MELS + 1}, 5\)"),
    "two dimensions": (torch.zeros(MELS, 5), rf"got \({MELS}, 5\)"),
    "no rows": (torch.zeros(0, MELS, 5), "B >= 1"),
    "half precision": (torch.zeros(1, MELS, 5, dtype=torch.float16), "float32 like the weights, got torch.float16"),
    "integers": (torch.zeros(1, MELS, 5, dtype=torch.long), "float32 like the weights, got torch.int64"),
    "NaN": (torch.full((1, MELS, 5), float("nan")), "NaN or infinite"),
    "infinity": (torch.full((1, MELS, 5), float("-inf")), "NaN or infinite"),
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
        model.step(mel, make(n_fft=40, hop=10).init_state(2))
    with pytest.raises(ValueError, match=r"state was made for torch\.bfloat16"):
        model.step(mel, make().to(torch.bfloat16).init_state(2))
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        model.init_state(0)
    with pytest.raises(ValueError, match=r"rows must lie in 0\.\.1, got \[2\]"):
        model.init_state(2).reset([2])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_mel": 80}, r"unknown keys \['num_mel'\].*num_mels"),
        ({"padding": "valid"}, "padding must be one of"),
        ({"n_fft": 600}, "at least 2 \\* hop_length"),
        ({"hop_length": 0}, "hop_length must be at least 1, got 0"),
    ],
)
def test_bad_config(sizes, message):
    with pytest.raises(ValueError, match=message):
        VocosConfig(**sizes)


def test_config_round_trip(tmp_path):
    config = VocosConfig(num_layers=3, padding="center")
    config.save_pretrained(tmp_path)
    assert VocosConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_from_vocos_refuses_other_weights(tmp_path):
    model = make()
    sizes = {"input_channels": MELS, "dim": 16, "intermediate_dim": 24, "num_layers": LAYERS}
    parts = {
        "feature_extractor": ("vocos.feature_extractors.MelSpectrogramFeatures", {"sample_rate": 24000}),
        "backbone": ("vocos.models.VocosBackbone", sizes),
        "head": ("vocos.heads.ISTFTHead", {"dim": 16, "n_fft": 32, "hop_length": 8}),
    }
    written = {part: {"class_path": name, "init_args": arguments} for part, (name, arguments) in parts.items()}
    (tmp_path / "config.yaml").write_text(json.dumps(written))  # JSON is YAML
    with pytest.raises(FileNotFoundError):
        VocosVocoder.from_vocos(tmp_path)
    weights = {**model.state_dict(), "head.istft.window": torch.hann_window(32)}
    save_file(weights, tmp_path / "model.safetensors")
    mel = torch.randn(1, MELS, 9)
    assert torch.equal(VocosVocoder.from_vocos(tmp_path).decode(mel), model.decode(mel))
    save_file({**weights, "discriminator.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"discriminator\.weight"):
        VocosVocoder.from_vocos(tmp_path)
    del weights["head.out.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"head\.out\.bias"):
        VocosVocoder.from_vocos(tmp_path)


def test_from_vocos_refuses_another_kind(tmp_path):
    (tmp_path / "config.yaml").write_text("backbone: {class_path: vocos.models.VocosBackbone, init_args: {}}\n")
    with pytest.raises(ValueError, match="feature_extractor must be"):
        VocosConfig.from_vocos_yaml(tmp_path / "config.yaml")


def test_kernels_are_sevens():
    """The state's 6 frames of context rest on it."""
    for module in make().modules():
        if isinstance(module, torch.nn.Conv1d):
            assert (module.kernel_size, module.stride, module.dilation, module.padding) == ((7,), (1,), (1,), (3,))
