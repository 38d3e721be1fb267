"""Training block by block: closer to the dense block than rounding, packed as it trained, the same after a kill."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen2ForCausalLM

from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.layers.linear import PackedSpikingLinear
from spikeaudio.spiking.neurons.gif import GIF
from spikeaudio.spiking.preparation import block_conversion, block_training
from spikeaudio.spiking.preparation.block_stream import BlockStream
from spikeaudio.spiking.preparation.calibration import calibrate, rotate_model
from spikeaudio.spiking.preparation.conversion_report import ConversionReport
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.weights.weight_grid import AffineGrid
from tests.fixtures.tiny_qwen2 import tiny_qwen2

PREPARED: dict[str, Any] = {"rotate": True, "shift": True}
LENGTH = 12


def training(config: GIFConfig | None = None, **changes: Any) -> ConversionSettings:
    return ConversionSettings(config or GIFConfig(), "blocks", **{"passes": 6, "weight_rate": 1e-3} | changes)


def qwen2() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return tiny_qwen2(initializer_range=0.2)


def text_batches() -> list[dict[str, Tensor]]:
    """Three batches; a row of the last is padded on the left."""
    ids = torch.randint(40, (3, 4, LENGTH), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(4, LENGTH).long()
    mask[1, :5] = 0
    return [{"input_ids": ids[0]}, {"input_ids": ids[1]}, {"input_ids": ids[2], "attention_mask": mask}]


def two_streams(folder: Path) -> SpikeAudioForConditionalGeneration:
    """Weights that are large enough for blocks to change what passes them."""
    model = SpikeAudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "proj.weight" in name:
                parameter.mul_(8)
    return model


def audio_batches(model: SpikeAudioForConditionalGeneration) -> list[dict[str, Tensor]]:
    rng, config = torch.Generator().manual_seed(1), model.config
    first, last = config.audio_token_offset, config.audio_token_offset + config.num_audio_codes
    return [
        {
            "input_ids": torch.randint(first, (4, LENGTH), generator=rng),
            "audio_input_ids": torch.randint(first, last, (4, LENGTH), generator=rng),
        }
        for _ in range(3)
    ]


def block_errors(dense: Any, spiking: Any, batches: list[dict[str, Tensor]], seed: int = 0) -> dict[str, float]:
    """Relative error of what every block puts out in the spiking model, tokens that are no padding."""
    rotated = copy.deepcopy(dense)
    rotate_model(rotated, seed)
    one, other = BlockStream(rotated, batches), BlockStream(spiking, batches)
    errors = {}
    for index, name in enumerate(one.names):
        wanted, given = one.advance(index), other.advance(index)
        pairs = [(one.tokens(n, a), one.tokens(n, b)) for n, (a, b) in enumerate(zip(wanted, given, strict=True))]
        lost = sum(float((a - b).square().sum()) for a, b in pairs)
        errors[name] = (lost / sum(float(a.square().sum()) for a, _ in pairs)) ** 0.5
    return errors


def same_state(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("kind", ["qwen2", "two streams"])
def test_training_brings_blocks_closer_to_the_dense_ones(tiny_checkpoint: Path, kind: str, bits: int) -> None:
    dense = qwen2() if kind == "qwen2" else two_streams(tiny_checkpoint)
    batches = text_batches() if kind == "qwen2" else audio_batches(dense)
    config = GIFConfig(**PREPARED, weight_bits=bits)
    errors: dict[str, dict[str, float]] = {}
    for asked in (ConversionSettings(config, "round"), ConversionSettings(config, "gptq"), training(config, passes=15)):
        model = copy.deepcopy(dense)
        report = calibrate(model, batches, asked)
        errors[asked.method] = block_errors(dense, model, batches)
    assert list(report.blocks) == list(errors["blocks"]) and len(report.blocks) == (2 if kind == "qwen2" else 4)
    for name, error in errors["blocks"].items():
        assert error < 0.9 * errors["round"][name] and error < 0.95 * errors["gptq"][name], name
        during = report.blocks[name].training
        assert len(during) == 15 and error < during[0]
        assert error == pytest.approx(during[-1], rel=0.1), "packed as it trained"


@pytest.mark.parametrize("attention", [False, True])
def test_the_dense_stream_is_dense_and_not_that_of_the_spiking_blocks(
    monkeypatch: pytest.MonkeyPatch, attention: bool
) -> None:
    """Targets of every block are the rotated model's own hidden states."""
    model, batches = qwen2(), text_batches()[:1]
    rotated = copy.deepcopy(model)
    rotate_model(rotated)
    states: list[Tensor] = []
    for block in rotated.model.layers:
        block.register_forward_hook(lambda block, args, out: states.append(out if isinstance(out, Tensor) else out[0]))
    with torch.no_grad():
        rotated(**batches[0])
    seen: list[Tensor] = []
    train = block_training.train_block

    def remembering(block: nn.Module, stream: BlockStream, index: int, targets: Any, *rest: Any) -> Any:
        seen.append(targets[0].clone())
        return train(block, stream, index, targets, *rest)

    monkeypatch.setattr(block_conversion, "train_block", remembering)
    calibrate(model, batches, training(GIFConfig(**PREPARED, attention=attention), passes=1))
    assert len(seen) == 2
    for one, other in zip(seen, states, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 4])
def test_reloads_bit_equal(tmp_path: Path, bits: int, dtype: torch.dtype) -> None:
    qwen2().save_pretrained(tmp_path / "dense")
    model, batches = AutoModelForCausalLM.from_pretrained(tmp_path / "dense", dtype=dtype), text_batches()
    norms = {name: weight.clone() for name, weight in rotated_norms(model).items()}
    config = GIFConfig(GIF(salient_share=0.1), **PREPARED, weight_bits=bits, group_size=16)
    calibrate(model, batches, training(config, quanta=(1.0, 2.5)))
    model.save_pretrained(tmp_path / "spiking")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "spiking")
    assert all(isinstance(layer, PackedSpikingLinear) for _, layer in spiking_layers(again))
    assert again.dtype == dtype and same_state(model, again)
    with torch.no_grad():
        for batch in batches:
            assert torch.equal(again(**batch).logits, model(**batch).logits)
    state = again.state_dict()
    assert not any("parametrizations" in name for name in state)
    assert all(torch.equal(state[name], norm) for name, norm in norms.items()), "norms do not learn"
    assert all(layer.bias.dtype == dtype and layer.bias.requires_grad for _, layer in spiking_layers(model))


def rotated_norms(model: nn.Module) -> dict[str, Tensor]:
    rotated = copy.deepcopy(model)
    rotate_model(rotated)
    return {name: parameter.detach() for name, parameter in rotated.named_parameters() if "norm" in name}


class Killed(Exception):
    pass


@pytest.mark.parametrize("finished", [0, 2, 3])
def test_killed_and_resumed_gives_the_same_bits(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    """Killed while the third trunk block or the branch learns: both streams are where they were."""
    asked = training(GIFConfig(GIF(salient_share=0.1), **PREPARED), passes=2, quanta=(None, 2.0))
    fresh = two_streams(tiny_checkpoint)
    batches = audio_batches(fresh)
    expected = calibrate(fresh, batches, asked)
    outputs, calls = BlockStream.outputs, []

    def dying(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2 * len(batches) * finished + 4:  # in the second pass of the block after
            raise Killed
        return outputs(*args)

    with monkeypatch.context() as patch:
        patch.setattr(BlockStream, "outputs", dying)
        with pytest.raises(Killed):
            calibrate(two_streams(tiny_checkpoint), batches, asked, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == finished
    resumed = two_streams(tiny_checkpoint)
    report = calibrate(resumed, iter(batches), asked, tmp_path)
    assert same_state(resumed, fresh)
    for name, block in report.blocks.items():
        assert block.training == expected.blocks[name].training
    resumed.save_pretrained(tmp_path / "a")
    fresh.save_pretrained(tmp_path / "b")
    one, other = (load_file(tmp_path / folder / "model.safetensors") for folder in "ab")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_padding_does_not_matter() -> None:
    """Whatever ids stand under the padding, the same bits come out."""
    models = []
    for filling in (0, 7):
        batches = text_batches()
        batches[2]["input_ids"][batches[2]["attention_mask"] == 0] = filling
        models.append(qwen2())
        calibrate(models[-1], batches, training(GIFConfig(**PREPARED), passes=2))
    assert same_state(*models)


def test_the_seed_orders_the_batches() -> None:
    def trained(seed: int) -> ConversionReport:
        return calibrate(qwen2(), text_batches(), training(passes=2, seed=seed))

    first, again, other = (trained(seed).blocks["model.layers.0"].training for seed in (0, 0, 3))
    assert first == again != other


def test_only_bounds_learn_where_weights_have_no_rate() -> None:
    """OmniQuant itself: every packed code is the dense weight rounded on some grid."""
    dense, model = qwen2(), qwen2()
    calibrate(model, text_batches(), training(weight_rate=0.0))
    moved = 0
    for name, layer in spiking_layers(model):
        weight = dense.get_submodule(name).weight.detach()
        assert torch.equal(layer.codes(), AffineGrid(layer.weight_scale, None, 4).codes(weight))
        moved += int((layer.weight_scale != AffineGrid.symmetric(weight, 4).shrunk(weight).scale).sum())
    assert moved > 100


def test_what_cannot_be_trained_is_said() -> None:
    for changes, message in (
        ({"passes": 0}, "passes must be at least 1, got 0"),
        ({"weight_rate": -1e-4}, r"must not be negative nor both 0, got \(0.01, -0.0001\)"),
        ({"weight_rate": 0.0, "clipping_rate": 0.0}, "must not be negative nor both 0"),
        ({"clipping_rate": float("nan")}, "must not be negative nor both 0"),
    ):
        with pytest.raises(ValueError, match=message):
            training(**changes)
    with pytest.raises(ValueError, match="ternary weights have no bounds that could learn"):
        training(GIFConfig(weight_bits=2), weight_rate=0.0)
    with pytest.raises(FloatingPointError, match=r"the loss of model.layers.0 is (nan|inf) in pass \d"):
        calibrate(qwen2(), text_batches(), training(weight_rate=1e30))


def test_layers_that_were_there_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report compares with the weights of the dense model."""
    train, changed = block_training.train_block, []

    def watching(block: nn.Module, *rest: Any) -> Any:
        layers = [layer for _, layer in spiking_layers(block)]
        before = copy.deepcopy([layer.state_dict() for layer in layers])
        errors = train(block, *rest)
        for layer, state in zip(layers, before, strict=True):
            assert layer.state_dict().keys() == state.keys()
            changed.extend(name for name, value in layer.state_dict().items() if not torch.equal(value, state[name]))
        return errors

    monkeypatch.setattr(block_conversion, "train_block", watching)
    model = qwen2()
    calibrate(model, text_batches(), training(GIFConfig(**PREPARED), passes=2))
    assert not changed
    assert all(parameter.grad is None for parameter in model.parameters())
