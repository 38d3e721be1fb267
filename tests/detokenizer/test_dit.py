"""DiT against the published network: velocity, activations, cache and both ODE solvers."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from spikeaudio.detokenizer.dit import DiT
from spikeaudio.detokenizer.flow_matching import CLEAN_TAU, euler, euler_grid, integer_time, naive_euler_grid
from spikeaudio.loading.kimi.weight_names import DETOKENIZER

FIXTURE = "detok_dit_tiny"
GRIDS = {"neural_ode_euler": euler_grid, "naive_euler": naive_euler_grid}


@pytest.fixture(scope="module")
def published(golden_dir) -> tuple[DiT, dict[str, torch.Tensor], float]:
    """The network, its records, and the step between the positions of two frames."""
    folder: Path = golden_dir(FIXTURE)
    size = yaml.safe_load((folder / "config.yaml").read_text())["model"]["dit"]
    rope = size["rope_params"]
    dit = DiT(
        size["semantic_vocab_size"],
        size["input_size"],
        size["hidden_size"],
        size["depth"],
        size["num_heads"],
        size["mlp_ratio"],
        rope["rope_base"],
    )
    weights = {name.removeprefix("speech_model."): w for name, w in load_file(folder / "model.safetensors").items()}
    renamed = DETOKENIZER.rename(weights, folder)
    dit.load_state_dict({name.removeprefix("dit."): weight for name, weight in renamed.items()}, strict=True)
    return dit.eval(), load_file(folder / "velocity.safetensors"), 1 / rope["rope_interpolation_factor"]


def tau_of(t: float) -> torch.Tensor:
    return integer_time(torch.tensor(t))


@pytest.mark.golden
@torch.no_grad()
def test_velocity_equals_published(published):
    dit, data, step = published
    names = [name for name in data if name.startswith("velocity.")]
    assert names
    for name in names:
        start, t = re.fullmatch(r"velocity\.start(\d+)\.t([\d.]+)", name).groups()
        positions = step * (int(start) + torch.arange(data["x"].shape[1]))
        velocity, _ = dit(data["x"], data["tokens"], tau_of(float(t)), positions)
        torch.testing.assert_close(velocity, data[name], rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.golden
@torch.no_grad()
def test_activations_equal_published(published):
    dit, data, step = published
    seen = {}
    hooks = [dit.time_embedding.register_forward_hook(lambda _m, _i, out: seen.__setitem__("t_emb", out))]
    for index, block in enumerate(dit.blocks):
        hooks.append(
            block.register_forward_hook(
                lambda _m, _i, out, k=f"block{index}": seen.__setitem__(k, out[0].flatten(1, 2))
            )
        )
    names = [match for name in data if (match := re.fullmatch(r"act\.t([\d.]+)\.(\w+)", name))]
    assert names
    for match in names:
        dit(data["x"], data["tokens"], tau_of(float(match[1])), step * torch.arange(data["x"].shape[1]))
        torch.testing.assert_close(seen[match[2]].view_as(data[match[0]]), data[match[0]], rtol=0, atol=1e-5)
    for hook in hooks:
        hook.remove()


@pytest.mark.golden
@torch.no_grad()
def test_cached_velocity_equals_published(published):
    dit, data, step = published
    mel, tokens = data["cached.prefix_mel"], data["cached.prefix_tokens"]
    _, cache = dit(mel, tokens, torch.tensor(CLEAN_TAU), step * torch.arange(mel.shape[1]))
    positions = step * (mel.shape[1] + torch.arange(data["x"].shape[1]))
    for name in (name for name in data if name.startswith("cached.velocity.t")):
        velocity, _ = dit(
            data["x"], data["tokens"], tau_of(float(name.removeprefix("cached.velocity.t"))), positions, cache
        )
        torch.testing.assert_close(velocity, data[name], rtol=0, atol=1e-5)


@pytest.mark.golden
@torch.no_grad()
def test_ode_equals_published(published):
    dit, data, step = published
    names = [match for name in data if (match := re.fullmatch(r"ode\.(\w+)\.n(\d+)", name))]
    assert names
    for match in names:
        times, sizes = GRIDS[match[1]](int(match[2]))
        torch.testing.assert_close(integer_time(times), data[match[0] + ".t_long"], rtol=0, atol=0)
        positions = step * torch.arange(data["x"].shape[1])
        x = euler(lambda x, tau, p=positions: dit(x, data["tokens"], tau, p)[0], data["x"], times, sizes)
        torch.testing.assert_close(x, data[match[0]], rtol=0, atol=5e-5)
