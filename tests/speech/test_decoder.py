"""Detokenizer and vocoder joined: either vocoder, stream == file, a voice prompt heard to the end, bad input."""

import json

import pytest
import torch

from spikeaudio.speech.decoder import SpeechDecoder
from spikeaudio.vocoder.bigvgan import BigVGAN
from spikeaudio.vocoder.configuration import BigVGANConfig
from tests.fixtures.checkpoint import NUM_CODES, speech_decoder


def bigvgan() -> BigVGAN:
    """Kimi-Audio's rates, few channels."""
    torch.manual_seed(3)
    sizes = {"upsample_initial_channel": 128, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 2]]}
    model = BigVGAN(BigVGANConfig(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module", params=["vocos", "bigvgan"])
def decoder(request) -> SpeechDecoder:
    vocos = speech_decoder()
    return vocos if request.param == "vocos" else SpeechDecoder(vocos.detokenizer, bigvgan())


def codes_of(count: int) -> torch.Tensor:
    return torch.randint(NUM_CODES, (count,), generator=torch.Generator().manual_seed(5))


def recording(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(round(24000 * seconds), generator=torch.Generator().manual_seed(seed)) * 0.3


def test_streamed_speech_is_decoded_speech(decoder):
    codes = codes_of(23)
    wav = decoder.decode(codes, seed=1)
    assert wav.shape == (1920 * 23,)
    state = decoder.init_state(seed=1)
    pieces = [decoder.step(piece, state) for piece in codes.split([1, 9, 0, 13])]
    pieces.append(decoder.step(codes[:0], state, last=True))
    torch.testing.assert_close(torch.cat(pieces), wav, rtol=0, atol=1e-4)


def test_every_chunk_gives_its_own_duration(decoder):
    """Even emission: after the delay of look-ahead and vocoder, 4 codes pushed are 4 codes of sound, every time."""
    state = decoder.init_state()
    lengths = [len(decoder.step(piece, state)) for piece in codes_of(80).split(4)]
    assert set(lengths[15:]) == {4 * 1920}


def test_saved_and_loaded_with_its_own_vocoder(decoder, tmp_path):
    decoder.save_pretrained(tmp_path)
    loaded = SpeechDecoder.from_pretrained(tmp_path)
    assert type(loaded.vocoder) is type(decoder.vocoder)
    torch.testing.assert_close(loaded.decode(codes_of(6)), decoder.decode(codes_of(6)), rtol=0, atol=1e-4)
    path = tmp_path / "vocoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "nobody_knows"}))
    with pytest.raises(ValueError, match="nobody_knows"):
        SpeechDecoder.from_pretrained(tmp_path)
    decoder.detokenizer.save_pretrained(tmp_path / "vocoder")
    with pytest.raises(ValueError, match="holds no vocoder: FlowMatchingDetokenizer has no log_mel"):
        SpeechDecoder.from_pretrained(tmp_path)


def test_a_voice_is_heard_to_the_end(decoder):
    """80 codes are ten times the context: without a sink nothing of the voice would be left."""
    codes = codes_of(80)
    heard = codes_of(4).flip(0)
    one, other = (decoder.voice(recording(0.32, seed), heard) for seed in (0, 1))
    assert one.mel.shape == (80, 16) and torch.equal(one.codes, heard)
    wavs = [decoder.decode(codes, voice=voice) for voice in (None, one, other)]
    for a, b in ((0, 1), (1, 2)):
        assert (wavs[a] - wavs[b])[-1920 * 4 :].abs().max() > 1e-5
    state = decoder.init_state(voice=one)
    pieces = [decoder.step(piece, state) for piece in codes.split(11)]
    pieces.append(decoder.step(codes[:0], state, last=True))
    torch.testing.assert_close(torch.cat(pieces), wavs[1], rtol=0, atol=1e-4)


def test_voice_is_cut_to_whole_codes(decoder):
    voice = decoder.voice(recording(0.25), codes_of(4))  # 12 frames; the fourth code is not full
    assert (voice.codes.shape, voice.mel.shape) == ((3,), (80, 12))
    torch.testing.assert_close(voice.mel, decoder.vocoder.log_mel(recording(0.25)[None])[0])


@pytest.mark.parametrize(
    "wav,message",
    [
        (recording(0.07), r"0.08 to 0.32 seconds, got 0.07"),
        (recording(0.4), r"0.08 to 0.32 seconds, got 0.4"),
        (torch.zeros(0), "the voice holds no samples"),
        (torch.full((9600,), torch.nan), "the voice holds 9600 NaN"),
    ],
)
def test_bad_voices(decoder, wav, message):
    with pytest.raises(ValueError, match=message):
        decoder.voice(wav, codes_of(6))
