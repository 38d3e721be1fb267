"""What a recording of the tiny recipe differs in: speed, noise, quiet, masks."""

from pathlib import Path

import encode_corpus
import numpy as np
import pytest
import torch
import train_lm
import train_tokenizer
from augmentation import (
    QUIET_SECONDS,
    add_noise,
    augment,
    change_speed,
    mask_spectrogram,
    noise_bank,
    with_quiet,
)
from noise import noise, noise_rows
from train_tokenizer import Batches

from spikeaudio.training.corpus import PackedCorpus
from tests.fixtures.tiny_corpus import CODES_PER_CLIP, ROWS


@pytest.mark.parametrize("samples", [1, 399, 16000])
def test_augmentation_keeps_length_and_range(samples: int) -> None:
    noises = list(noise_bank(1.0))
    for wav in (np.zeros(samples, np.float32), np.ones(samples, np.float32)):
        for seed in range(20):
            out = augment(wav, noises, np.random.default_rng(seed))
            assert out.shape == wav.shape and np.isfinite(out).all() and abs(out).max() <= 1
            np.testing.assert_array_equal(out, augment(wav, noises, np.random.default_rng(seed)))


def test_noise_is_added_at_the_asked_level() -> None:
    wav = np.sin(np.arange(16000) * 0.1).astype(np.float32)
    added = add_noise(wav, noise_bank(1.0)[0], 20.0, np.random.default_rng(0)) - wav
    assert 10 * np.log10((wav**2).mean() / (added**2).mean()) == pytest.approx(20, abs=0.01)


def test_speed_changes_length_and_pitch() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    fast = change_speed(tone, 1.25)
    assert len(fast) == 12800
    peak = np.abs(np.fft.rfft(fast)).argmax() * 16000 / len(fast)
    assert peak == pytest.approx(550, abs=2)


@pytest.mark.parametrize(("kind", "most"), [("music", 0.05), ("digit", 0.2), ("open", 0.12)])
def test_more_renderings_keep_to_their_speeds(kind: str, most: float) -> None:
    tone = 0.1 * np.sin(np.arange(32000) / 10).astype(np.float32)
    factors = []
    for seed in range(40):
        wav = encode_corpus.disturbed(tone, kind, np.random.default_rng(seed))
        power = np.convolve(wav**2, np.ones(320) / 320, "same")
        factors.append(len(tone) / (power > 0.5 * np.median(power[power > 0.5 * power.max()])).sum())
    assert 1 - 1.01 * most < min(factors) < 1 - 0.7 * most
    assert 1 + 0.7 * most < max(factors) < 1 + 1.01 * most


def test_quiet_before_between_and_after_clips() -> None:
    """Up to 3 s each, silence or noise at least 15 dB below, and the clips themselves as they were."""
    clips = [np.full(1600, value, np.float32) for value in (0.5, -0.5, 0.25)]
    rms = float(np.sqrt(np.mean(np.concatenate(clips) ** 2)))
    gaps: list[list[float]] = []
    silent = noisy = 0
    for seed in range(60):
        joined = with_quiet(clips, np.random.default_rng(seed))
        np.testing.assert_array_equal(joined, with_quiet(clips, np.random.default_rng(seed)))
        ends, at, quiets = [], 0, []
        for clip in clips:
            begin = next(i for i in range(at, len(joined)) if np.array_equal(joined[i : i + len(clip)], clip))
            quiets.append(joined[at:begin])
            at = begin + len(clip)
            ends.append(at)
        quiets.append(joined[at:])
        gaps.append([len(each) / 16000 for each in quiets])
        for each in quiets:
            if len(each) < 1600:
                continue
            level = float(np.sqrt(np.mean(each**2)))
            silent, noisy = silent + (level == 0), noisy + (level > 0)
            assert level <= 2 * rms * 10 ** (-15 / 20)  # a stretch of brown noise may be louder than all of it
    for place in zip(*gaps, strict=True):
        assert max(place) > 2.0 and min(place) < 0.2 and max(place) <= QUIET_SECONDS
        assert 0.3 < sum(seconds <= 0.25 for seconds in place) / len(place) < 0.75
    assert silent > 20 and noisy > 2 * silent - 30


def test_renderings_have_quiet_around_them() -> None:
    tone = 0.1 * np.sin(np.arange(8000) / 10).astype(np.float32)
    longer = [len(encode_corpus.disturbed(tone, "open", np.random.default_rng(seed))) / 16000 for seed in range(60)]
    assert max(longer) > 4.0 and min(longer) < 1.1 and max(longer) < 0.6 + 2 * QUIET_SECONDS


def test_joined_clips_have_pauses(examples: train_lm.Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_lm, "TASKS", {"asr": 1.0})
    monkeypatch.setattr(train_lm, "ASR_KINDS", {"open": 1.0})
    monkeypatch.setattr(train_lm, "JOINED", {"open": (1.0, 2)})
    monkeypatch.setattr(train_lm, "CODE_REPLACED", (0.0,))
    quiet_code = len(ROWS)
    lengths = []
    for seed in range(30):
        example = examples.draw(np.random.default_rng(seed))["example"]
        codes = example.audio_input_ids[example.audio_feature_mask] - examples.config.audio_token_offset
        quiet = (codes == quiet_code).nonzero().flatten().tolist()
        assert not quiet or (quiet[0] == CODES_PER_CLIP and quiet == list(range(quiet[0], quiet[-1] + 1)))
        assert len(codes) == 2 * CODES_PER_CLIP + len(quiet)
        lengths.append(len(quiet))
    assert max(lengths) == CODES_PER_CLIP and min(lengths) < 3


def test_masks_grow_with_strength() -> None:
    mel = torch.randn(2, 80, 300).clamp(-4, 4)
    frames = [300, 7]
    assert torch.equal(mask_spectrogram(mel.clone(), frames, [0.0, 0.0], np.random.default_rng(0)), mel)
    assert torch.equal(mask_spectrogram(mel.clone(), frames, [0.0, 1.0], np.random.default_rng(0))[0], mel[0])
    masked = mask_spectrogram(mel.clone(), frames, [1.0, 1.0], np.random.default_rng(0))
    assert 0 < (masked != mel).float().mean() < 0.6


def test_a_masked_note_is_no_note(corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    strengths: list[float] = []
    monkeypatch.setattr(train_tokenizer, "mask_spectrogram", lambda mel, frames, given, rng: strengths.extend(given))
    music = [row for row in corpus.rows if row["kind"] == "music"]
    Batches(corpus, music, 100)(90)
    assert strengths and not any(strengths)
    Batches(corpus, [row for row in corpus.rows if row["kind"] == "open"], 100)(90)
    assert strengths[-1] == pytest.approx(0.4)


def test_sustained_instruments_are_drawn_twice_as_often(corpus: PackedCorpus) -> None:
    music = [row["instrument"] for row in Batches(corpus, corpus.rows, 100).by_kind["music"]]
    assert sorted(music) == ["flute", "flute", "organ", "organ"]


def test_noise_clips(tmp_path: Path) -> None:
    clips = [noise(np.random.default_rng(seed)) for seed in range(30)]
    for clip in clips:
        assert 8000 <= len(clip) <= 80000
        assert np.sqrt((clip**2).mean()) == pytest.approx(0.06, rel=1e-3)
    rows = noise_rows(tmp_path, 10)
    assert [row["split"] for row in rows].count("test") == 2
    assert all(Path(row["file"]).is_file() and row["text"] == "" for row in rows)
