"""FlowMatchingDetokenizer: training mask == streaming cache, any pushing == offline, rows, long streams, bad input."""

import pytest
import torch

from spikeaudio.detokenizer import DetokenizerConfig, FlowMatchingDetokenizer
from spikeaudio.detokenizer.flow_matching import CLEAN_TAU, TAU_PER_UNIT, conditional_path, target_velocity

TINY = dict(num_codes=32, hidden_size=32, depth=2, num_heads=2, mlp_ratio=2.0, num_mels=8, mel_mean=-4.0, mel_std=3.0)
STREAM = dict(chunk_tokens=3, look_ahead_tokens=2, max_kv_frames=24, max_positions=64, ode_steps=3)

BATCHED = 1e-4  # matrices of another height are summed in another order; mels here are of size 4


def build(**changes) -> FlowMatchingDetokenizer:
    """A tiny model without zero weights: at its published start the velocity is zero and proves nothing."""
    torch.manual_seed(1)
    model = FlowMatchingDetokenizer(DetokenizerConfig(**(TINY | STREAM | changes)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> FlowMatchingDetokenizer:
    return build()


def codes_of(*shape: int) -> torch.Tensor:
    return torch.randint(TINY["num_codes"], shape, generator=torch.Generator().manual_seed(3))


def push(model: FlowMatchingDetokenizer, codes: torch.Tensor, sizes: list[int], close: bool = False) -> torch.Tensor:
    """Mel of `codes` pushed in pieces; `close` ends the stream by an empty push."""
    state = model.init_state(len(codes))
    pieces = codes.split(sizes, 1)
    mel = [model.step(piece, state, last=not close and k == len(pieces) - 1) for k, piece in enumerate(pieces)]
    if close:
        mel.append(model.step(codes[:, :0], state, last=True))
    return torch.cat(mel, 2)


def test_published_start_is_the_identity():
    model = FlowMatchingDetokenizer(DetokenizerConfig(**TINY))
    dit = model.dit
    for linear in (dit.final_modulation, dit.mel_out, *(block.modulation for block in dit.blocks)):
        assert linear.weight.abs().max() == 0
    assert dit.time_embedding[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert dit.blocks[0].qkv.weight.abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("lengths", [[4, 3, 5], [5, 1], [6]])
def test_training_mask_equals_chunks_over_a_cache(model, lengths):
    """The one-pass loss is the loss of the chunks done one after the other with cached clean frames."""
    config, rate = model.config, model.config.frames_per_code
    codes, mel = codes_of(2, sum(lengths)), torch.randn(2, config.num_mels, rate * sum(lengths))
    loss = model(codes, mel, chunk_tokens=lengths, generator=torch.Generator().manual_seed(4)).loss

    generator = torch.Generator().manual_seed(4)  # the same draws in the same order: noise, then times
    x1 = ((mel.transpose(1, 2) - config.mel_mean) / config.mel_std).unflatten(1, (-1, rate))
    x0 = torch.randn(x1.shape, generator=generator)
    tau = torch.randint(TAU_PER_UNIT, (2, len(lengths)), generator=generator)
    cache, error, start = None, 0.0, 0
    for index, length in enumerate(lengths):
        part = slice(start, start + length)
        time = tau[:, index, None]
        x_t = conditional_path(x0[:, part], x1[:, part], time[..., None, None] / TAU_PER_UNIT).flatten(1, 2)
        positions = torch.arange(start * rate, (start + length) * rate)
        velocity, _ = model.dit(x_t, codes[:, part], time, positions, cache)
        error += (velocity - target_velocity(x0[:, part], x1[:, part]).flatten(1, 2)).square().sum()
        _, memory = model.dit(x1[:, part].flatten(1, 2), codes[:, part], torch.tensor(CLEAN_TAU), positions, cache)
        if cache is not None:
            memory = [
                type(new)(*(torch.cat(pair, 2) for pair in zip(old, new, strict=True)))
                for old, new in zip(cache, memory, strict=True)
            ]
        cache, start = memory, start + length
    torch.testing.assert_close(loss, error / x1.numel(), rtol=1e-5, atol=0)


@torch.no_grad()
def test_codes_at_12_hz_equal_codes_repeated_to_50_hz(model):
    codes, x, rate = codes_of(2, 5), torch.randn(2, 20, TINY["num_mels"]), model.config.frames_per_code
    tau, positions = torch.tensor(300), torch.arange(20)
    per_frame, _ = model.dit(x, codes.repeat_interleave(rate, 1), tau, positions)
    torch.testing.assert_close(model.dit(x, codes, tau, positions)[0], per_frame, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", [[1] * 23, [23], [5, 18], [4, 0, 1, 7, 11], [22, 1]])
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("count", [23, 3, 5])
def test_any_way_of_pushing_gives_one_mel(model, sizes, close, count):
    codes = codes_of(1, 23)[:, :count]
    bounds = torch.tensor(sizes).cumsum(0).clamp(max=count).diff(prepend=torch.zeros(1, dtype=torch.long))
    mel = push(model, codes, bounds.tolist(), close)
    assert mel.shape == (1, TINY["num_mels"], 4 * count)
    torch.testing.assert_close(mel, model.decode(codes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [dict(look_ahead_tokens=0), dict(cfg_scale=1.0), dict(chunk_tokens=1)])
def test_pushing_with_other_settings(changes):
    model, codes = build(**changes), codes_of(1, 12)
    torch.testing.assert_close(push(model, codes, [1, 4, 2, 5]), model.decode(codes), rtol=0, atol=1e-5)


def test_guidance_and_seed_and_codes_are_heard(model):
    codes = codes_of(1, 9)
    mel = model.decode(codes)
    assert (mel - model.decode(codes, seed=1)).abs().max() > 0.1
    assert (mel - model.decode(codes.roll(1, 1))).abs().max() > 0.1
    assert (mel - build(cfg_scale=1.0).decode(codes)).abs().max() > 1e-3
    assert torch.equal(mel, model.decode(codes))


def test_frames_depend_on_their_chunk_look_ahead_and_past_only(model):
    codes = codes_of(1, 20)
    changed = codes.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % TINY["num_codes"]  # the second chunk is 3..5, its look-ahead 6..7
    difference = (model.decode(codes) - model.decode(changed)).abs().amax((0, 1))
    assert difference[: 6 * 4].max() == 0 and difference[6 * 4 :].max() > 1e-3


def test_rows_of_unequal_length_equal_singles(model):
    codes = codes_of(3, 17)
    lengths = [17, 4, 9]
    padded = torch.stack(
        [torch.cat((row[:n], torch.full((17 - n,), -1))) for row, n in zip(codes, lengths, strict=True)]
    )
    mel = model.decode(padded)
    for row, length in enumerate(lengths):
        single = model.decode(codes[row : row + 1, :length])[0]
        torch.testing.assert_close(mel[row, :, : 4 * length], single, rtol=0, atol=BATCHED)
        assert length == 17 or mel[row, :, 4 * length :].max() < -11  # silence


def test_reset_of_one_row_leaves_the_others_alone(model):
    codes = codes_of(2, 26)
    state = model.init_state(2)
    made: list[list[torch.Tensor]] = [[], []]

    def feed(piece: torch.Tensor, last: bool | torch.Tensor = False) -> None:
        mel = model.step(piece, state, last)
        for row in range(2):
            made[row].append(mel[row, :, : state.emitted_frames[row]])

    feed(codes[:, :7], last=torch.tensor([False, True]))
    torch.testing.assert_close(torch.cat(made[1], 1), model.decode(codes[1:, :7])[0], rtol=0, atol=BATCHED)
    with pytest.raises(ValueError, match=r"rows \[1\] of the stream have ended"):
        model.step(codes[:, 7:9], state)
    state.reset([1])
    made[1].clear()
    # the refused push must not have changed row 0
    feed(codes[:, 7:12])
    feed(codes[:, 12:], last=True)
    torch.testing.assert_close(torch.cat(made[0], 1), model.decode(codes[:1])[0], rtol=0, atol=BATCHED)
    torch.testing.assert_close(torch.cat(made[1], 1), model.decode(codes[1:, 7:])[0], rtol=0, atol=BATCHED)


def test_clone_continues_in_two_ways(model):
    codes = codes_of(1, 15)
    state = model.init_state()
    model.step(codes[:, :8], state)
    copy = state.clone()
    a = model.step(codes[:, 8:], state, last=True)
    b = model.step(codes[:, 8:], copy, last=True)
    assert torch.equal(a, b)


def test_long_stream_rebases_without_a_trace(model):
    """480 frames for 64 positions: the keys are turned back many times; a model with room for all must agree."""
    codes = codes_of(1, 120)
    roomy = build(max_positions=1 << 20)
    state, mel = model.init_state(), []
    for piece in codes.split(50, 1):
        mel.append(model.step(piece, state))
        assert state.positions.max() <= model.config.max_positions
        assert state.keys.shape[3] == model.config.max_kv_frames
    assert state.frames.item() == 4 * 3 * ((120 - 5) // 3 + 1)
    out = torch.cat(mel, 2)
    # fp32 angles of far positions are the less exact ones
    torch.testing.assert_close(out, roomy.decode(codes)[:, :, : out.shape[2]], rtol=0, atol=1e-3)


def test_save_and_load_are_bit_equal(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = FlowMatchingDetokenizer.from_pretrained(tmp_path)
    assert {name: tensor.tolist() for name, tensor in loaded.state_dict().items()} == {
        n: t.tolist() for n, t in model.state_dict().items()
    }
    assert all(getattr(loaded.config, key) == getattr(model.config, key) for key in TINY | STREAM)
    # the same bits at other addresses: matrix products of unaligned (memory-mapped) weights round differently
    torch.testing.assert_close(loaded.decode(codes_of(1, 9)), model.decode(codes_of(1, 9)), rtol=0, atol=1e-3)


def test_training_reaches_every_weight_and_repeats(model):
    model = build(condition_dropout=0.5).train()
    codes, mel = codes_of(4, 12), torch.randn(4, TINY["num_mels"], 48)
    losses = [model(codes, mel, generator=torch.Generator().manual_seed(5)).loss for _ in range(2)]
    assert torch.equal(*losses)
    losses[0].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("chunks", [None, [8]])
def test_padding_is_neither_seen_nor_counted(model, chunks):
    mask = torch.tensor([[True] * 8, [True] * 5 + [False] * 3])
    codes, mel = codes_of(2, 8), torch.randn(2, TINY["num_mels"], 32)
    loss = model(codes, mel, mask, chunks, torch.Generator().manual_seed(6)).loss
    other_codes, other_mel = codes.masked_fill(~mask, -1), mel.masked_fill(~mask.repeat_interleave(4, 1)[:, None], 7.0)
    torch.testing.assert_close(model(other_codes, other_mel, mask, chunks, torch.Generator().manual_seed(6)).loss, loss)


@pytest.mark.parametrize(
    "codes, sentence",
    [
        (torch.zeros(4, dtype=torch.long), r"shape \(batch, codes\)"),
        (torch.zeros(1, 4), "integer tensor"),
        ([1, 2], "integer tensor"),
        (torch.tensor([[3, 32]]), r"\[0, 32\), got 3\.\.32"),
        (torch.tensor([[-2, 1]]), r"\[0, 32\), got -2\.\.1"),
        (torch.zeros(1, 0, dtype=torch.long), "at least one code"),
        (torch.full((1, 3), -1), "at least one code"),
    ],
)
def test_bad_codes_are_one_sentence(model, codes, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.decode(codes)


def test_other_bad_input(model):
    state = model.init_state()
    with pytest.raises(ValueError, match="one row per row of the state, 1, got 2"):
        model.step(codes_of(2, 3), state)
    model.step(codes_of(1, 3), state, last=True)
    with pytest.raises(ValueError, match="have ended"):
        model.step(codes_of(1, 1), state)
    with pytest.raises(ValueError, match="seeds"):
        model.init_state(2, seed=[1])
    with pytest.raises(ValueError, match=r"mel must have shape \(1, 8, 12\)"):
        model(codes_of(1, 3), torch.zeros(1, 8, 11))
    with pytest.raises(ValueError, match="sum to 3"):
        model(codes_of(1, 3), torch.zeros(1, 8, 12), chunk_tokens=[2, 2])
    with pytest.raises(ValueError, match="mask must have the shape"):
        model(codes_of(1, 3), torch.zeros(1, 8, 12), torch.ones(1, 4, dtype=torch.bool))


def test_config_rejects_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"chunk_token'.*valid keys are .*chunk_tokens"):
        DetokenizerConfig(chunk_token=3)
    with pytest.raises(Exception, match="multiple of 2"):
        DetokenizerConfig(hidden_size=30, num_heads=4)
    with pytest.raises(Exception, match="max_positions"):
        DetokenizerConfig(max_positions=100)


# -- a voice prompt ----------------------------------------------------------------------------------------------------


def voice_of(codes: int, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and mel of a voice prompt; the tiny context of 24 frames takes 12 of it, 3 codes."""
    return codes_of(rows, 24)[:, -codes:], torch.randn(rows, TINY["num_mels"], 4 * codes) * 3 - 4


def with_voice(model: FlowMatchingDetokenizer, codes: torch.Tensor, prompt: tuple, sizes: list[int]) -> torch.Tensor:
    state = model.init_state(len(codes))
    model.prefill(*prompt, state)
    pieces = codes.split(sizes, 1)
    return torch.cat([model.step(piece, state, last=k == len(pieces) - 1) for k, piece in enumerate(pieces)], 2)


def test_a_voice_prompt_is_clean_context(model):
    """The first chunk is what the network makes over the prompt's own keys, and is not what it makes without."""
    codes, (spoken, mel) = codes_of(1, 5), voice_of(3)
    state = model.init_state()
    model.prefill(spoken, mel, state)
    assert (state.prompt_frames.item(), state.cached_frames.item(), state.positions.item()) == (12, 12, 12)
    clean = ((mel - model.config.mel_mean) / model.config.mel_std).transpose(1, 2)
    with torch.no_grad():
        _, memory = model.dit(clean, spoken, torch.tensor(CLEAN_TAU), torch.arange(12))
    torch.testing.assert_close(state.keys[:, :, :, -12:], torch.stack([block.keys for block in memory]))
    torch.testing.assert_close(state.values[:, :, :, -12:], torch.stack([block.values for block in memory]))
    assert (model.step(codes, state, last=True) - model.decode(codes)).abs().max() > 0.01


def test_a_voice_prompt_stays_and_the_oldest_speech_goes(model):
    codes, prompt = codes_of(1, 80), voice_of(3)
    state = model.init_state()
    model.prefill(*prompt, state)
    keys, values = state.keys[:, :, :, -12:].clone(), state.values[:, :, :, -12:].clone()
    for piece in codes.split(7, 1):  # 64 positions: re-based several times
        model.step(piece, state)
    assert (state.cached_frames.item(), state.prompt_frames.item()) == (24, 12)
    assert torch.equal(state.keys[:, :, :, :12], keys) and torch.equal(state.values[:, :, :, :12], values)
    other = voice_of(3)[0], voice_of(3)[1] + 2
    late = [with_voice(model, codes, voice, [80])[..., -12:] for voice in (prompt, other)]
    assert (late[0] - late[1]).abs().max() > 0.01  # after 300 frames the voice is still heard


@torch.no_grad()
def test_a_full_context_is_the_prompt_followed_by_the_newest_frames(model):
    """Against a state that says so: prompt at 0..11, newest 12 frames at 12..23, the next chunk from 24 on."""
    codes, (spoken, mel) = codes_of(1, 21), voice_of(3)
    state = model.init_state()
    model.prefill(spoken, mel, state)
    model.step(codes[:, :14], state)  # four chunks: 0..11
    moved = state.positions.item() - 24
    assert moved > 0
    turn = model.dit.rotation(torch.tensor([0] * 12 + [-moved] * 12))
    cache, _ = state.context(torch.tensor([0]))
    cache = [type(block)(turn.turn(block.keys), block.values) for block in cache]
    fresh = model.init_state()
    fresh.frames[0], fresh.positions[0], fresh.cached_frames[0], fresh.prompt_frames[0] = state.frames[0], 24, 24, 12
    fresh.keys, fresh.values = torch.stack([b.keys for b in cache]), torch.stack([b.values for b in cache])
    expected = model.step(codes[:, 12:17], fresh, last=True)
    got = model.step(codes[:, 14:17], state, last=True)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sizes", [[1] * 31, [4, 20, 0, 7], [30, 1]])
def test_any_way_of_pushing_gives_one_mel_in_the_prompts_voice(model, sizes):
    codes, prompt = codes_of(1, 31), voice_of(2)
    torch.testing.assert_close(
        with_voice(model, codes, prompt, sizes), with_voice(model, codes, prompt, [31]), rtol=0, atol=1e-4
    )


def test_rows_with_their_own_prompts_equal_singles(model):
    codes = codes_of(3, 40)
    long, short = voice_of(3), voice_of(1)
    state = model.init_state(3)
    model.prefill(*long, state, rows=[2])
    model.prefill(*short, state, rows=[0])
    mel = model.step(codes, state, last=True)
    singles = [
        with_voice(model, codes[:1], short, [40]),
        model.decode(codes[1:2]),
        with_voice(model, codes[2:], long, [40]),
    ]
    torch.testing.assert_close(mel, torch.cat(singles), rtol=0, atol=BATCHED)
    state.reset([2])
    assert state.prompt_frames.tolist() == [4, 0, 0]


@pytest.mark.parametrize("bad", ["long", "empty", "frames", "bands", "nan", "integer", "rows", "code"])
def test_bad_voice_prompts_are_one_sentence(model, bad):
    (codes, mel), state = voice_of(3), model.init_state()
    cases = {
        "long": (*voice_of(4), "16 frames, but the context has room for at most 12"),
        "empty": (codes[:, :0], mel[..., :0], "empty: expected at least one code"),
        "frames": (codes, mel[..., :-1], r"shape \(1, 8, 12\), got torch.float32 \(1, 8, 11\)"),
        "bands": (codes, mel[:, :5], r"got torch.float32 \(1, 5, 12\)"),
        "nan": (codes, mel * torch.nan, "NaN or infinite"),
        "integer": (codes, mel.long(), "got torch.int64"),
        "rows": (codes.repeat(2, 1), mel.repeat(2, 1, 1), "for 1 rows"),
        "code": (codes + TINY["num_codes"], mel, r"\[0, 32\)"),
    }
    *prompt, message = cases[bad]
    with pytest.raises(ValueError, match=message):
        model.prefill(*prompt, state)
    assert state.cached_frames.item() == 0
    model.step(codes, state)
    with pytest.raises(ValueError, match=r"rows \[0\] of the stream have begun already"):
        model.prefill(codes, mel, state)


def test_modulation_runs_once_per_code():
    """adaLN is a third of a block's weights: it must not run for each of a code's four frames."""
    model, rows = build(cfg_scale=1.0), []
    for linear in (*(block.modulation for block in model.dit.blocks), model.dit.final_modulation):
        linear.register_forward_hook(lambda _m, inputs, _o: rows.append(inputs[0].shape[:-1].numel()))
    model.decode(codes_of(1, 5))  # one chunk of 3 codes with 2 of look-ahead, then the rest
    assert sum(rows) == 3 * (3 * 5 + 3 + 3 * 2)  # layers x (steps x 5 codes, 3 shown clean, steps x the last 2)
