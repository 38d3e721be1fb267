"""The published schedule, scenario by scenario, and where ours differs from it on purpose."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from eval.benchmarks.kimi_reference import KimiReferenceStream, KimiSchedule
from spikeaudio.detokenizer.configuration import DetokenizerConfig
from spikeaudio.detokenizer.dit import DiT
from spikeaudio.detokenizer.modeling import FlowMatchingDetokenizer
from spikeaudio.detokenizer.noise import frame_noise
from spikeaudio.loading.kimi.configuration import vocoder_config
from spikeaudio.loading.kimi.weight_names import DETOKENIZER
from spikeaudio.vocoder.bigvgan import BigVGAN, fold_weight_norm
from spikeaudio.vocoder.configuration import BigVGANConfig

BOUND = 1e-4  # of mel and wav, the fixture's README
MELS = 8


@pytest.fixture(scope="module")
def fixture(golden_dir) -> SimpleNamespace:
    folder: Path = golden_dir("detok_dit_tiny")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    size = values["model"]["dit"]
    dit = DiT(
        num_codes=size["semantic_vocab_size"],
        num_mels=size["input_size"],
        hidden_size=size["hidden_size"],
        depth=size["depth"],
        num_heads=size["num_heads"],
        mlp_ratio=size["mlp_ratio"],
        rope_base=size["rope_params"]["rope_base"],
    )
    weights = {name.removeprefix("speech_model."): w for name, w in load_file(folder / "model.safetensors").items()}
    renamed = DETOKENIZER.rename(weights, folder)
    dit.load_state_dict({name.removeprefix("dit."): weight for name, weight in renamed.items()})
    vocoder_folder: Path = golden_dir("bigvgan_tiny")
    vocoder = BigVGAN(vocoder_config(vocoder_folder / "config.json"))
    vocoder.load_state_dict(fold_weight_norm(load_file(vocoder_folder / "generator.safetensors")))
    scenarios = json.loads((folder / "streaming.json").read_text())
    assert scenarios
    return SimpleNamespace(folder=folder, values=values, dit=dit.eval(), vocoder=vocoder.eval(), scenarios=scenarios)


def stream_of(fixture: SimpleNamespace, case: dict) -> KimiReferenceStream:
    schedule = KimiSchedule(
        look_ahead_tokens=case["look_ahead_tokens"],
        ode_points=case["ode_step"],
        ode_solver=case["ode_solver"],
        max_kv_frames=case["max_kv_cache_frames"],
        max_prompt_chunks=case["max_prompt_chunk"],
        max_positions=case["max_pos_size"],
        frames_per_code=case["upsample_factor"],
        rope_interpolation_factor=fixture.values["model"]["dit"]["rope_params"]["rope_interpolation_factor"],
    )
    values, vocoder = fixture.values, fixture.vocoder
    return KimiReferenceStream(
        fixture.dit, vocoder.decode, vocoder.config.hop_length, values["mel_mean"], values["mel_std"], schedule
    )


@pytest.mark.golden
def test_every_scenario_frame_by_frame(fixture):
    for case in fixture.scenarios:
        data = load_file(fixture.folder / f"stream_{case['name']}.safetensors")
        stream = stream_of(fixture, case)
        if "prompt_mel" in data:
            stream.prefill(data["prompt_mel"], data["prompt_tokens"], case["prefill_chunk_size"])
        pieces = data["tokens"].flatten().split(case["tokens_per_chunk"])
        made = []
        for index, codes in enumerate(pieces):
            where = f"{case['name']}, push {index}"
            begun = stream.evaluations
            last = index == len(pieces) - 1
            made.append(stream.push(codes, last, data[f"chunk{index}.noise"]))
            for name, tensor in zip(("mel", "wav"), made[-1], strict=True):
                torch.testing.assert_close(
                    tensor, data[f"chunk{index}.{name}"], rtol=0, atol=BOUND, msg=lambda m, w=where: f"{w}: {m}"
                )
            counted = stream.evaluations - begun, stream.context_frames, stream.position
            names = ("net_evals", "kv_frames_after", "start_position_after")
            assert counted == tuple(case[name][index] for name in names), where
            if stream.context_frames:
                cached = stream.context.blocks[0].keys[0, :, -4:].transpose(0, 1)
                keys = data[f"chunk{index}.kv_k_layer0_last4"]
                torch.testing.assert_close(cached, keys, rtol=0, atol=BOUND, msg=lambda m, w=where: f"{w}: {m}")
        for name, tensors in zip(("mel", "wav"), zip(*made, strict=True), strict=True):
            torch.testing.assert_close(torch.cat(tensors), data[name], rtol=0, atol=BOUND)


@pytest.mark.golden
def test_ours_is_the_reference_where_both_mean_the_same(fixture):
    """Equal noise, one chunk size, no eviction: our default schedule makes the reference's mel."""
    values, dit = fixture.values, fixture.dit
    config = DetokenizerConfig(
        num_codes=dit.null_code,
        hidden_size=dit.mel_in.out_features,
        depth=len(dit.blocks),
        num_heads=dit.blocks[0].num_heads,
        num_mels=dit.mel_in.in_features,
        mlp_ratio=values["model"]["dit"]["mlp_ratio"],
        rope_base=float(dit.rope_base),
        mel_mean=values["mel_mean"],
        mel_std=values["mel_std"],
        chunk_tokens=5,
        look_ahead_tokens=3,
        max_kv_frames=900,
        ode_steps=5,
        cfg_scale=1.0,
    )
    ours = FlowMatchingDetokenizer(config)
    ours.dit.load_state_dict(dit.state_dict())
    schedule = KimiSchedule(look_ahead_tokens=3, ode_points=6)
    silent = lambda mel: torch.zeros(1, 480 * mel.shape[2])  # noqa: E731
    stream = KimiReferenceStream(dit, silent, 480, config.mel_mean, config.mel_std, schedule)
    codes = torch.randint(dit.null_code, (1, 18))
    voice, mel = torch.randint(dit.null_code, (1, 5)), torch.randn(1, config.num_mels, 20)
    state = ours.init_state()
    ours.prefill(voice, mel, state)
    stream.prefill(mel[0].T, voice[0].repeat_interleave(4), 20)
    noise = frame_noise(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), 72, config.num_mels)[0]
    # the reference's first push carries the look-ahead as well; then both make chunks of 5 codes
    pushed = [
        stream.push(codes[0, :8], noise=noise[:32])[0],
        stream.push(codes[0, 8:13], noise=noise[20:52])[0],
        stream.push(codes[0, 13:18], noise=noise[40:72])[0],
        stream.push(codes[0, :0], True, noise[60:72])[0],
    ]
    torch.testing.assert_close(ours.step(codes, state, last=True)[0], torch.cat(pushed).T, rtol=0, atol=BOUND)


# -- where they differ, on purpose -------------------------------------------------------------------------------------


def constant_sound(mel: torch.Tensor) -> torch.Tensor:
    """A vocoder that gives ones: what it is faded to shows."""
    return torch.ones(1, 4 * mel.shape[2])


@pytest.fixture(scope="module")
def detokenizer() -> FlowMatchingDetokenizer:
    sizes = {"num_codes": 32, "hidden_size": 32, "depth": 2, "num_heads": 2, "num_mels": MELS, "cfg_scale": 1.0}
    stream = {"chunk_tokens": 5, "look_ahead_tokens": 2, "max_kv_frames": 40, "max_positions": 100, "ode_steps": 3}
    model = FlowMatchingDetokenizer(DetokenizerConfig(**sizes, **stream))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def reference(model: FlowMatchingDetokenizer, vocode: Callable = constant_sound, **changes) -> KimiReferenceStream:
    config = model.config
    settings = {"look_ahead_tokens": 2, "ode_points": 4, "max_kv_frames": 40, "max_positions": 4096} | changes
    return KimiReferenceStream(model.dit, vocode, 4, config.mel_mean, config.mel_std, KimiSchedule(**settings))


def codes_of(count: int) -> torch.Tensor:
    return torch.randint(32, (count,), generator=torch.Generator().manual_seed(7))


def test_reference_fades_too_loud_and_ours_does_not(detokenizer):
    stream = reference(detokenizer)
    wav = torch.cat([stream.push(piece, last=k == 4)[1] for k, piece in enumerate(codes_of(25).split(5))])
    assert wav.max() == pytest.approx(1.08, abs=1e-5) and wav.min() == 1
    torch.manual_seed(0)
    vocoder = BigVGAN(
        BigVGANConfig(
            num_mels=MELS,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            upsample_initial_channel=4,
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
            hop_size=4,
        )
    )
    mel = torch.randn(1, MELS, 60)
    state = vocoder.init_state()
    ours = torch.cat([vocoder.step(piece, state, last=k == 2) for k, piece in enumerate(mel.split(20, -1))], -1)
    torch.testing.assert_close(ours, vocoder.decode(mel), rtol=0, atol=1e-6)


def test_reference_emits_unevenly_and_ours_evenly(detokenizer):
    stream = reference(detokenizer)
    lengths = [len(stream.push(piece)[1]) // 16 for piece in codes_of(40).split(5)]
    assert len(set(lengths[1:])) > 1
    state = detokenizer.init_state()
    ours = [detokenizer.step(piece, state).shape[2] // 4 for piece in codes_of(40)[None].split(5, 1)]
    assert set(ours[1:]) == {5}


def test_reference_loses_the_voice_and_ours_keeps_it(detokenizer):
    codes, voice = codes_of(60), torch.randn(2, MELS, 20)
    said, kept = [], []
    for mel in voice:
        stream = reference(detokenizer)
        stream.prefill(mel.T, codes_of(20), 20)
        for piece in codes.split(5):
            torch.manual_seed(0)
            stream.push(piece)
        said.append(stream.context.blocks[0].values)  # of the first block: they know nothing but their own frames
        state = detokenizer.init_state()
        detokenizer.prefill(codes_of(5)[None], mel[None], state)
        detokenizer.step(codes[None], state)
        kept.append(state.values[0, :, :, :20])
    assert said[0].shape[2] == 40 and state.cached_frames.item() == 40
    clean = (voice[0] - detokenizer.config.mel_mean) / detokenizer.config.mel_std
    with torch.no_grad():
        _, memory = detokenizer.dit(clean.T[None], codes_of(5)[None], torch.tensor(999), torch.arange(20))
    torch.testing.assert_close(kept[0], memory[0].values)
    assert not any((said[0][:, :, k : k + 20] - memory[0].values).abs().max() < 1e-2 for k in range(21))


def test_reference_restores_a_polluted_snapshot_and_ours_never_resets(detokenizer):
    stream = reference(detokenizer, look_ahead_tokens=0, max_positions=80)
    stream.prefill(torch.randn(20, MELS), codes_of(20), 20)
    seen = []
    for piece in codes_of(60).split(5):
        stream.push(piece)
        seen.append((stream.position, stream.context_frames))
    restored = [frames for position, frames in seen if position == 20]
    assert restored[0] == 20 and restored[1] > 20
    state = detokenizer.init_state()
    detokenizer.prefill(codes_of(5)[None], torch.randn(1, MELS, 20), state)
    for piece in codes_of(60)[None].split(5, 1):
        detokenizer.step(piece, state)
        assert state.cached_frames.item() >= 20
    assert state.cached_frames.item() == 40 and state.positions.item() <= 100


def test_reference_draws_noise_again(detokenizer):
    codes = codes_of(10)
    mels = [reference(detokenizer).push(codes, last=True)[0] for _ in range(2)]
    assert (mels[0] - mels[1]).abs().max() > 0.1
    assert torch.equal(detokenizer.decode(codes[None]), detokenizer.decode(codes[None]))
