"""`spikeaudio spike`: a checkpoint that loads as a spiking one, reported on what it is, and the same after a kill."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from spikeaudio import SpikeAudio
from spikeaudio.audio.files import save_audio
from spikeaudio.cli.app import main
from spikeaudio.prompt.batch import BatchRow
from spikeaudio.spiking.conversion import cast, spiking_layers
from spikeaudio.spiking.layers.cache import SpikingCacheLayer
from spikeaudio.spiking.layers.linear import PackedSpikingLinear
from spikeaudio.spiking.neurons.gif import GIF
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.preset import PRESETS, preset
from spikeaudio.training import spike
from spikeaudio.training.spike import split
from tests.fixtures.checkpoint import text_tokenizer
from tests.fixtures.tiny_qwen2 import tiny_qwen2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve conversations, heard and spoken."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for i in range(6):
        wav = torch.randn(8000 + 1000 * i, generator=torch.Generator().manual_seed(i)) * 0.1
        save_audio(folder / f"{i}.wav", wav, 16000)
        heard = [{"type": "text", "text": "say"}, {"type": "audio", "path": f"{i}.wav"}]
        spoken = [
            {"type": "text", "text": "how are you"},
            {"type": "audio", "codes": [(7 * i + k) % 32 for k in range(9)]},
        ]
        lines += [
            {"messages": [{"role": "user", "content": heard}, {"role": "assistant", "content": "hello world"}]},
            {"messages": [{"role": "user", "content": "say hello"}, {"role": "assistant", "content": spoken}]},
        ]
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def settings(**changes: Any) -> ConversionSettings:
    return ConversionSettings(**{"config": preset("w4a4"), "steps": 6, "batch_tokens": 128, "passes": 10} | changes)


@pytest.mark.parametrize(
    "name,method",
    [
        ("w4a4", "train"),
        ("w4a4kv4", "train"),
        ("w4a4", "blocks"),
        ("w4a4kv4", "blocks"),
        ("w4a4", "gptq"),
        ("w4a4", "round"),
    ],
)
def test_the_checkpoint_is_what_the_report_says(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, name: str, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []  # bytes of what a spiking cache holds, after every update
    update = SpikingCacheLayer.update

    def spy(layer: SpikingCacheLayer, *args: Any, **kwargs: Any) -> Any:
        out = update(layer, *args, **kwargs)
        kept.append(layer.num_bytes)
        return out

    monkeypatch.setattr(SpikingCacheLayer, "update", spy)
    asked = settings(config=preset(name), method=method)
    report = spike.spike(tiny_checkpoint, tmp_path / "out", data, asked)
    model = SpikeAudio.from_pretrained(tmp_path / "out")
    layers = dict(spiking_layers(model.model))
    assert set(layers) == set(report.layers) and len(layers) == 28
    assert all(isinstance(layer, PackedSpikingLinear) for layer in layers.values())
    kept.clear()
    assert isinstance(model.transcribe(torch.randn(8000) * 0.1, 16000), str)
    assert bool(kept) == (name == "w4a4kv4")
    assert len(model.speak("hello", seed=0).wav)
    stored = json.loads((tmp_path / "out" / "spiking_report.json").read_text())
    assert stored["spiking"] == report.spiking and set(report.spiking) == {"text", "audio"}
    assert report.held_out == 2 and 0 < report.unary_rate < 7 and report.bytes_spiking < report.bytes_dense
    assert report.gap["text"][0] == pytest.approx(report.spiking["text"] / report.dense["text"] - 1)
    assert not (tmp_path / "out.work").exists()
    assert not (tmp_path / "out" / "floors.json").exists()


def test_training_pays(tmp_path: Path) -> None:
    """On texts that it trained on, too: the point is that the student learns what its teacher says."""
    texts = write_decoder(tmp_path, initializer_range=0.3)
    gaps = {}
    for method, steps in (("round", 1), ("train", 60)):
        asked = settings(config=preset("ternary", group_size=16), method=method, steps=steps, learning_rate=3e-3)
        [(gaps[method], _)] = spike.spike(tmp_path / "dense", tmp_path / method, texts, asked).gap.values()
    assert gaps["train"] < 0.5 * gaps["round"]


def test_blocks_that_learn_pay(tmp_path: Path) -> None:
    """The method reaches the conversion: its gap is below that of rounding."""
    texts = write_decoder(tmp_path, initializer_range=0.3)
    gaps = {}
    for method in ("round", "blocks"):
        asked = settings(config=preset("ternary", group_size=16), method=method, batch_tokens=32)
        [(gaps[method], _)] = spike.spike(tmp_path / "dense", tmp_path / method, texts, asked).gap.values()
    assert gaps["blocks"] < 0.8 * gaps["round"]


def write_decoder(folder: Path, **changes: Any) -> Path:
    """A random Qwen2 in bfloat16 with a tokenizer, in ``dense/``, and texts for it."""
    tokenizer = text_tokenizer()
    torch.manual_seed(0)
    tiny_qwen2(vocab_size=len(tokenizer), **changes).to(torch.bfloat16).save_pretrained(folder / "dense")
    tokenizer.save_pretrained(folder / "dense")
    lines = ["how are you", "hello world", "the quick brown fox", "what is two plus two"] * 5
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("after", [0, 2, 5, 8])
def test_killed_and_resumed_gives_the_same_file(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    spike.spike(tiny_checkpoint, tmp_path / "whole", data, settings())

    class Killed(BaseException):
        pass

    calls = 0

    def dying(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                raise Killed
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("spikeaudio.spiking.preparation.calibration.BlockConversion.convert", dying(spike_convert()))
        patch.setattr("spikeaudio.training.distillation.distillation_loss", dying(spike_loss()))
        with pytest.raises(Killed):
            spike.spike(tiny_checkpoint, tmp_path / "out", data, settings())
    assert not (tmp_path / "out").exists()
    done, calls, after = calls - 1, 0, 10**6
    with monkeypatch.context() as patch:
        patch.setattr("spikeaudio.spiking.preparation.calibration.BlockConversion.convert", dying(spike_convert()))
        spike.spike(tiny_checkpoint, tmp_path / "out", data, settings())
    assert calls == max(0, 4 - done)  # of four blocks
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "out"))
    assert set(whole) == set(resumed) and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_another_conversion_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other examples or other settings than those of the work folder, whatever stage it had reached."""
    texts = write_decoder(tmp_path)

    class Killed(BaseException):
        pass

    def dying(*args: Any) -> None:
        raise Killed

    def run(data: Path, **changes: Any) -> Any:
        return spike.spike(tmp_path / "dense", tmp_path / "out", data, settings(batch_tokens=32, **changes))

    with monkeypatch.context() as patch:
        patch.setattr(spike, "distill", dying)  # every block is finished
        with pytest.raises(Killed):
            run(texts)
    other = tmp_path / "other.jsonl"
    lines = texts.read_text().splitlines()
    other.write_text("\n".join([*lines[:-1], json.dumps({"text": "how is hello"})]) + "\n")  # one line of twenty
    with pytest.raises(ValueError, match=r"out\.work belongs to a conversion with other examples"):
        run(other)
    for changes in ({"steps": 7}, {"seed": 1}, {"learning_rate": 1e-3}, {"config": preset("w4a8")}):
        with pytest.raises(ValueError, match="with other settings"):
            run(texts, **changes)
    assert run(texts).spiking["text"] > 0


def test_damaged_checkpoints_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_decoder(tmp_path)
    weights = load_file(tmp_path / "dense" / "model.safetensors")
    weights["model.layers.0.mlp.gate_proj.weight"][1, 1] = float("nan")
    save_file(weights, tmp_path / "dense" / "model.safetensors", {"format": "pt"})
    folders = [str(tmp_path / name) for name in ("dense", "out")]
    with pytest.raises(SystemExit) as exit:
        main(["spike", *folders, "--calibration", str(texts), "--method", "round"])
    assert exit.value.code == 2 and "gate_proj.weight holds NaN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.work").exists()


def test_a_system_that_does_not_say_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spike, "resource", None)
    report = spike.spike(tmp_path / "dense", tmp_path / "out", write_decoder(tmp_path), settings(method="round"))
    assert report.peak_gigabytes is None


def spike_convert() -> Any:
    from spikeaudio.spiking.preparation.block_conversion import BlockConversion

    return BlockConversion.convert


def spike_loss() -> Any:
    from spikeaudio.training.distillation import distillation_loss

    return distillation_loss


def test_any_decoder_spikes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_decoder(tmp_path)
    folders = [str(tmp_path / name) for name in ("dense", "out")]
    with pytest.raises(SystemExit) as exit:
        main(["spike", *folders, "--calibration", str(texts), "--steps", "4", "--preset", "w4a8"])
    assert exit.value.code == 0
    printed = capsys.readouterr().out
    assert "perplexity, dense" in printed and "unary spikes per input" in printed
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16 and len(dict(spiking_layers(model))) == 14
    assert (tmp_path / "out" / "spiking_report.png").stat().st_size > 10_000
    scales = [tensor for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items() if "scale" in name]
    assert scales and all(tensor.dtype == torch.float32 for tensor in scales)


def test_large_means_survive_half_precision(tiny_checkpoint: Path) -> None:
    from spikeaudio.spiking.layers.linear import SpikingLinear
    from spikeaudio.spiking.preparation.rounded_weight import attach_rounding, pack_rounded
    from spikeaudio.spiking.transforms.outliers import MeanShift, shift_inputs

    config = preset("w4a4", rotate=False)
    layer = torch.nn.Linear(32, 8)
    mean = 30 * torch.randn(32) + 0.123
    shift_inputs(layer, mean)
    model = torch.nn.Sequential(
        SpikingLinear.of(layer, config.make_neuron(32), torch.nn.Sequential(MeanShift(mean.clone())))
    )
    attach_rounding(model, config)
    pack_rounded(model, config)
    x = mean + torch.randn(5, 32)
    with torch.no_grad():
        before = model(x)
        cast(model, torch.bfloat16)
        after = model(x)
    assert (after - before).abs().mean() < 0.1 * before.std()


def test_what_cannot_be_done_is_said(
    tiny_checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str, source: Path = tiny_checkpoint, out: str = "out") -> str:
        with pytest.raises(SystemExit) as exit:
            main(["spike", str(source), str(tmp_path / out), "--calibration", str(data), *arguments])
        assert exit.value.code == 2
        return capsys.readouterr().err

    assert "unknown preset 'w1a1'; there are w4a4, w4a4kv4, w4a8, ternary" in run("--preset", "w1a1")
    assert "method must be one of train, blocks, gptq, round, got 'magic'" in run("--method", "magic")
    assert "no checkpoint folder at" in run(source=tmp_path / "lost")
    (tmp_path / "taken").mkdir()
    assert "exists already: give a new folder" in run(out="taken")
    assert "packed with 2 to 8 bits, got 9" in run("--bits", "9")
    assert "group_size 64 does not divide the 48 inputs of model" in run("--preset", "ternary")
    inside = shutil.copytree(tiny_checkpoint, tmp_path / "source")
    assert "give a folder beside it" in run(source=inside, out="source/twin")
    assert not (tmp_path / "out.work").exists() and not (inside / "twin.work").exists()
    spike.spike(tiny_checkpoint, tmp_path / "spiking", data, settings(method="round"))
    assert "spikes already: start from the dense checkpoint" in run(source=tmp_path / "spiking")
    single = tmp_path / "single.jsonl"
    shutil.copyfile(data, single)
    with pytest.raises(ValueError, match="need four examples at least"):
        split([BatchRow({"input_ids": torch.ones(3)})])


def test_every_tenth_example_is_held_out() -> None:
    examples = [BatchRow({"input_ids": torch.full((2,), i)}) for i in range(25)]
    training, held_out = split(examples)
    assert [int(each.ids["input_ids"][0]) for each in held_out] == [9, 19]
    assert len(training) == 23
    assert len(split(examples[:4])[1]) == len(split(examples[:19])[1]) == 2


def test_presets_are_valid() -> None:
    for name in PRESETS:
        config = preset(name)
        assert config.rotate and config.shift
    assert preset("w4a4kv4").attention and not preset("w4a4").attention
    assert preset("w4a8").make_neuron(8).steps.capacity == 255
    assert preset("w4a4", {"time_steps": 3}).neuron == GIF(time_steps=3)
    assert preset("w4a4", GIF(levels=2)).neuron.levels == 2 and preset("w4a4").neuron.levels == 7
    with pytest.raises(ValueError, match="unknown parameters"):
        preset("w4a4", {"time_step": 3})
