"""Where a recording is quiet: silence and steady noise around what changes, and nothing else."""

import pytest
import torch
from torch import Tensor

from spikeaudio.audio.quiet import sounding_span, sounding_spans
from spikeaudio.audio.segmentation import joined, loudest, pieces, without_quiet

RATE = 16000


def speech(seconds: float, seed: int = 0, rms: float = 0.1) -> Tensor:
    """Syllables: noise in changing bands, 4 times a second, loud and soft in turn."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(round(seconds * 8)):
        hertz = torch.fft.rfftfreq(2000, 1 / RATE)
        low = float(torch.rand(1, generator=generator)) * 1500 + 150
        spectrum = torch.fft.rfft(torch.randn(2000, generator=generator)) * ((hertz > low) & (hertz < low + 600))
        parts.append(torch.fft.irfft(spectrum, 2000) * (0.2 if len(parts) % 2 else 1.0))
    wav = torch.cat(parts)
    return wav * rms / wav.square().mean().sqrt()


def steady(seconds: float, rms: float, seed: int = 1, brown: bool = False) -> Tensor:
    noise = torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    if brown:
        hertz = torch.fft.rfftfreq(len(noise), 1 / RATE).clamp(min=20.0)
        noise = torch.fft.irfft(torch.fft.rfft(noise) / hertz, len(noise))
    return noise * rms / noise.square().mean().sqrt().clamp(min=1e-9)


def seconds(spans: list) -> list[tuple[float, float]]:
    return [(span.first / RATE, span.last / RATE) for span in spans]


NOISES = [(0.0, False), (1e-3, False), (1e-3, True), (0.1 * 10**-0.75, False), (0.1 * 10**-0.75, True)]


@pytest.mark.parametrize("rms,brown", NOISES)
@pytest.mark.parametrize("lead", [0.4, 3.0, 60.0])
def test_what_sounds_between_two_leads(rms: float, brown: bool, lead: float) -> None:
    wav = torch.cat([steady(lead, rms, brown=brown), speech(2.0), steady(1.5, rms, 2, brown)])
    ((first, last),) = seconds(sounding_spans(wav, RATE, 0.3, 0.3))
    assert first == pytest.approx(lead, abs=0.08) and last == pytest.approx(lead + 2.0, abs=0.15)
    span = sounding_span(wav, RATE)
    assert span is not None
    assert span.first / RATE == pytest.approx(lead, abs=0.08) and span.last / RATE == pytest.approx(lead + 2, abs=0.15)


@pytest.mark.parametrize("rms,brown", NOISES)
def test_pauses_separate(rms: float, brown: bool) -> None:
    wav = torch.cat([speech(1.0), steady(0.6, rms, brown=brown), speech(1.0, 3), steady(2.0, rms, 4, brown), speech(1)])
    found = seconds(sounding_spans(wav, RATE, 0.3, 0.3))
    expected = [(0.0, 1.0), (1.6, 2.6), (4.6, 5.6)]
    assert len(found) == 3
    for span, true in zip(found, expected, strict=True):
        assert span == pytest.approx(true, abs=0.15)


@pytest.mark.parametrize(
    "wav",
    [speech(3.0), steady(3.0, 0.05), steady(3.0, 0.05, brown=True), steady(0.1, 0.01), torch.full((1,), 0.5)],
    ids=["speech", "white", "brown", "0.1 s", "one sample"],
)
def test_nothing_is_quiet_where_nothing_is_louder(wav: Tensor) -> None:
    assert seconds(sounding_spans(wav, RATE, 0.3, 0.3)) == [(0.0, len(wav) / RATE)]
    assert sounding_span(wav, RATE) == (0, len(wav))


@pytest.mark.parametrize("length", [1, 1600, 50 * RATE])
def test_digital_silence_is_nothing(length: int) -> None:
    assert sounding_spans(torch.zeros(length), RATE, 0.3, 0.3) == []
    assert sounding_span(torch.zeros(length), RATE) is None
    assert pieces(torch.zeros(length), RATE, 5.0, 0.3) == []
    assert not without_quiet(torch.zeros(length), RATE, 0.3, inside=True).numel()


def test_a_bang_makes_no_speech_quiet() -> None:
    bang = torch.zeros(RATE)
    bang[:1000] = 1.0
    wav = torch.cat([speech(2.0, rms=0.03), bang, speech(2.0, 5, rms=0.03)])
    found = seconds(sounding_spans(wav, RATE, 0.3, 0.3))
    assert (found[0][0], found[-1][1]) == (0.0, 5.0)
    assert sum(last - first for first, last in found) > 4.0


def test_a_speaker_far_away_is_kept() -> None:
    wav = torch.cat([speech(2.0), torch.zeros(RATE), speech(2.0, 6, rms=0.01)])  # 20 dB softer
    assert [round(first) for first, _ in seconds(sounding_spans(wav, RATE, 0.3, 0.3))] == [0, 3]


def test_a_note_that_decays_is_kept_whole() -> None:
    """Trimming what is 40 dB softer would take the end of it; it is slow enough to be steady, too."""
    time = torch.arange(3 * RATE) / RATE
    note = torch.sin(2 * torch.pi * 440 * time) * torch.exp(-2.5 * time) * 0.3  # 65 dB in 3 s
    span = sounding_span(torch.cat([torch.zeros(RATE), note]), RATE)
    assert span is not None
    assert span.first / RATE == pytest.approx(1.0, abs=0.08) and span.last / RATE > 3.0


def test_one_second_in_an_hour_of_silence() -> None:
    hour = torch.zeros(3600 * 8000)
    hour[1800 * 8000 : 1801 * 8000] = speech(2.0)[:8000]
    ((first, last),) = sounding_spans(hour, 8000, 0.3, 0.3)
    assert first / 8000 == pytest.approx(1800, abs=0.1) and last / 8000 == pytest.approx(1801, abs=0.1)


# -- pieces ------------------------------------------------------------------------------------------------------------


def test_pieces_are_what_sounds_with_a_margin() -> None:
    wav = torch.cat([torch.zeros(2 * RATE), speech(1.0), torch.zeros(RATE), speech(8.0, 7), torch.zeros(RATE)])
    found = pieces(wav, RATE, 5.0, 0.3)
    assert len(found) >= 3
    assert all(torch.equal(piece.wav, wav[piece.first : piece.last]) for piece in found)
    assert all(piece.first <= piece.span.first < piece.span.last <= piece.last for piece in found)
    assert all(piece.wav.numel() <= 5 * RATE for piece in found)
    lost = sum(piece.wav.abs().sum() for piece in found) / wav.abs().sum()
    assert lost > 0.99


def test_pieces_of_a_model_that_hears_everything_join_to_the_recording() -> None:
    wav = torch.cat([torch.zeros(12 * RATE), speech(3.0)])
    found = pieces(wav, RATE, 5.0, None)
    assert torch.equal(torch.cat([piece.wav for piece in found]), wav)
    assert [piece.first for piece in found] == [piece.span.first for piece in found]


def test_joining_shortens_pauses_and_nothing_else() -> None:
    parts = [speech(1.0), speech(1.0, 8), speech(1.0, 9)]
    wav = torch.cat([torch.zeros(RATE), parts[0], torch.zeros(2 * RATE), parts[1], torch.zeros(RATE), parts[2]])
    found = pieces(wav, RATE, 5.0, 0.3)
    together = joined(wav, found, RATE)
    assert len(found) == 3 and together.numel() / RATE == pytest.approx(3.3, abs=0.3)
    assert torch.equal(joined(wav, found[1:2], RATE), found[1].wav)
    assert together.square().sum() == pytest.approx(float(wav.square().sum()), rel=1e-3)
    assert torch.equal(without_quiet(wav, RATE, 0.3, inside=True), together)
    assert without_quiet(wav, RATE, 0.3, inside=False).numel() / RATE == pytest.approx(6.1, abs=0.15)


# -- loudest part ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rms,brown", NOISES)
def test_the_part_in_which_the_most_is_said(rms: float, brown: bool) -> None:
    bang = torch.zeros(RATE)
    bang[:300] = 1.0
    wav = torch.cat([bang, steady(4.0, rms, brown=brown), speech(2.0), steady(3.0, rms, 2, brown), bang])
    first, last = loudest(wav, RATE, 2.0)
    assert first / RATE == pytest.approx(5.0, abs=0.1) and last - first == 2 * RATE
    assert loudest(speech(2.0), RATE, 2.0) == (0, 2 * RATE)


def test_a_bang_is_no_speech() -> None:
    bang = torch.zeros(RATE)
    bang[:2000] = 1.0
    wav = torch.cat([bang, torch.zeros(4 * RATE), speech(2.0, rms=0.01), torch.zeros(RATE)])
    assert loudest(wav, RATE, 2.0).first / RATE == pytest.approx(5.0, abs=0.1)


def test_a_part_of_silence_is_as_good_as_any_other() -> None:
    first, last = loudest(torch.zeros(2 * RATE), RATE, 1.0)
    assert last - first == RATE and first >= 0
