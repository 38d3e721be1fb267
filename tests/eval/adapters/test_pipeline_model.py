"""Models of transformers with random weights, saved as any other and run through their pipelines."""

import json
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniProcessor,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Config,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from eval.adapters.adapter import Request, Response
from eval.adapters.pipeline_model import PipelineAdapter
from eval.task import AQA, ASR, CONVERSATION, TTS
from spikeaudio import SpikeAudio
from tests.eval.conftest import write_tone

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def request(job: str, audio: Path | None = None, text: str | None = None) -> Request:
    return Request(job, None if audio is None else str(audio), text, "en", 0)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wav2Vec2 with a letter per class."""
    folder = tmp_path_factory.mktemp("wav2vec2")
    (folder / "letters.json").write_text(
        json.dumps({name: i for i, name in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS])})
    )
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(40, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "letters.json"), pad_token="<pad>", word_delimiter_token="|")
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper with a letter per token."""
    folder = tmp_path_factory.mktemp("whisper")
    names = "endoftext startoftranscript en translate transcribe startoflm startofprev nospeech notimestamps".split()
    special = [f"<|{name}|>" for name in names]
    times = [f"<|{index / 50:.2f}|>" for index in range(1501)]
    ids = {token: index for index, token in enumerate([*LETTERS, "\u0120", *special, *times])}
    end = special[0]
    tokenizer = WhisperTokenizer(vocab=ids, merges=[], language="en", task="transcribe", pad_token=end)
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    frame = {"bos_token_id": ids[end], "eos_token_id": ids[end], "pad_token_id": ids[end]}
    frame["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(ids),
        num_mel_bins=16,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        **frame,
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        max_length=448,
        max_new_tokens=12,
        lang_to_id={"<|en|>": ids["<|en|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"]},
        is_multilingual=True,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        suppress_tokens=list(range(ids[end] + 1, len(ids))),
        **frame,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VITS voice."""
    folder = tmp_path_factory.mktemp("vits")
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(["<pad>", " ", *LETTERS])}))
    torch.manual_seed(0)
    config = VitsConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=9,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        depth_separable_num_layers=1,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1]],
    )
    VitsModel(config).save_pretrained(folder)
    VitsTokenizer(str(folder / "vocab.json"), phonemize=False, normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2-Audio: recordings and text in, text out."""
    folder = tmp_path_factory.mktemp("qwen2audio")
    special = ["<|endoftext|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<unk>"]
    words = [*special, "which", "is", "this", "user", "assistant", "one", "two"]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        additional_special_tokens=special[1:4],
    )
    template = (
        "{% for m in messages %}{{ m.role }} {% for c in m.content %}{% if c.type == 'audio' %}"
        "<|audio_bos|><|AUDIO|><|audio_eos|> {% else %}{{ c.text }} {% endif %}{% endfor %}{% endfor %}assistant"
    )
    torch.manual_seed(0)
    text = Qwen2Config(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    audio = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    config = Qwen2AudioConfig(
        audio_config=audio | {"num_mel_bins": 16, "max_source_positions": 1500},
        text_config=text.to_dict(),
        audio_token_index=1,
    )
    Qwen2AudioForConditionalGeneration(config).save_pretrained(folder)
    Qwen2AudioProcessor(WhisperFeatureExtractor(feature_size=16), tokenizer, chat_template=template).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5-Omni: recordings and text in, text and speech out."""
    pytest.importorskip("torchvision", reason="the processor of Qwen2.5-Omni needs torchvision, for pictures")
    folder = tmp_path_factory.mktemp("omni")
    names = {
        "audio_token": "<|AUDIO|>",
        "audio_bos_token": "<|audio_bos|>",
        "audio_eos_token": "<|audio_eos|>",
        "image_token": "<|IMAGE|>",
        "video_token": "<|VIDEO|>",
        "vision_bos_token": "<|vision_bos|>",
        "vision_eos_token": "<|vision_eos|>",
    }
    words = ["<|endoftext|>", *names.values(), "<unk>", "which", "is", "this", "user", "assistant", "one", "two"]
    ids = {word: index for index, word in enumerate(words)}
    raw = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        extra_special_tokens=names,
    )
    places = {f"{kind}_token_index": ids[names[f"{kind}_token"]] for kind in ("audio", "image", "video")}
    places |= {"audio_start_token_id": 2, "audio_end_token_id": 3, "vision_start_token_id": 6}
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    }
    audio = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    thinker = places | {
        "audio_config": audio | {"num_mel_bins": 16, "output_dim": 16, "n_window": 50},
        "vision_config": vision | {"fullatt_block_indexes": [0]},
        "text_config": small | {"vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
        "user_token_id": ids["user"],
    }
    talker = small | places | {"vocab_size": 8300, "embedding_size": 16, "head_dim": 8, "vision_end_token_id": 7}
    talker |= {"tts_text_start_token_id": 9, "tts_text_end_token_id": 10, "tts_text_pad_token_id": 0}
    mel = {"mel_dim": 8}
    dit = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "emb_dim": 16}
    dit |= {"num_embeds": 8300, "enc_emb_dim": 8, "enc_dim": 8, "enc_channels": [8, 8, 8, 8, 24]}
    dit |= {"enc_attention_channels": 8, "enc_se_channels": 8, "look_ahead_layers": [0], "look_backward_layers": [0]}
    gan = {"upsample_initial_channel": 64, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]]}
    voice = {"dit_config": mel | dit, "bigvgan_config": mel | gan}
    torch.manual_seed(0)
    model = Qwen2_5OmniForConditionalGeneration(
        Qwen2_5OmniConfig(thinker_config=thinker, talker_config=talker, token2wav_config=voice)
    )
    model.save_pretrained(folder)
    speaker = {"bos_token": 9, "cond": torch.zeros(1, 8), "ref_mel": torch.randn(1, 20, 8)}
    torch.save({"Chelsie": speaker}, folder / "spk_dict.pt")
    template = (
        "{% for m in messages %}{{ m.role }} {% for c in m.content %}{% if c.type == 'audio' %}"
        "<|audio_bos|> <|AUDIO|> <|audio_eos|> {% else %}{{ c.text }} {% endif %}{% endfor %}{% endfor %}assistant"
    )
    Qwen2_5OmniProcessor(
        Qwen2VLImageProcessor(),
        Qwen2VLVideoProcessor(),
        WhisperFeatureExtractor(feature_size=16),
        tokenizer,
        chat_template=template,
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_a_recognizer(recognizer: Path, whisper: Path, tmp_path: Path, kind: str) -> None:
    adapter = PipelineAdapter(str(recognizer if kind == "wav2vec2" else whisper), "cpu")
    assert adapter.jobs == {ASR} and adapter.fingerprint()["type"] == kind
    tones = [write_tone(tmp_path / "a.wav", 0.3), write_tone(tmp_path / "b.flac", 0.5, 44100, 2)]
    together = adapter.answer([request(ASR, tone) for tone in tones])
    alone = [adapter.answer([request(ASR, tone)])[0] for tone in tones]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Response) and isinstance(other, Response) and one.text
        assert one.text == other.text and one.measured["seconds"] > 0
    assert isinstance(together[1], Response) and together[1].measured["audio_seconds"] == pytest.approx(0.5, abs=1e-3)


def test_a_voice(voice: Path) -> None:
    adapter = PipelineAdapter(str(voice), "cpu")
    assert adapter.jobs == {TTS}
    first, second = (adapter.answer([request(TTS, None, "hello world")])[0] for _ in range(2))
    assert isinstance(first, Response) and isinstance(second, Response) and first.wav is not None
    assert first.wav.ndim == 1 and first.sampling_rate == 16000
    np.testing.assert_array_equal(first.wav, second.wav)  # VITS draws its durations: the seed decides


def test_a_listener(listener: Path, tmp_path: Path) -> None:
    adapter = PipelineAdapter(str(listener), "cpu")
    assert adapter.jobs == {ASR, AQA, CONVERSATION}
    tone = write_tone(tmp_path / "a.wav")
    answers = adapter.answer([request(AQA, tone, "which is this"), request(ASR, tone)])
    assert all(isinstance(answer, Response) and isinstance(answer.text, str) for answer in answers), answers


@pytest.mark.slow
def test_a_model_that_hears_and_speaks(omni: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = Qwen2_5OmniForConditionalGeneration.generate
    lengths = {"thinker_max_new_tokens": 6, "talker_max_new_tokens": 20}  # random weights do not end by themselves
    monkeypatch.setattr(Qwen2_5OmniForConditionalGeneration, "generate", partialmethod(generate, **lengths))
    adapter = PipelineAdapter(str(omni), "cpu")
    assert adapter.jobs == {ASR, AQA, CONVERSATION}
    tone = write_tone(tmp_path / "a.wav")
    first, second = (adapter.answer([request(CONVERSATION, tone, "which is this")])[0] for _ in range(2))
    assert isinstance(first, Response) and isinstance(second, Response), first
    assert first.text is not None and set(first.text.split()) <= {*"which is this user assistant one two".split()}
    assert first.wav is not None and first.wav.ndim == 1 and first.wav.std() > 0 and first.sampling_rate == 24000
    assert first.measured["audio_seconds"] == len(first.wav) / 24000 and first.measured["seconds"] > 0
    np.testing.assert_array_equal(first.wav, second.wav)  # the talker draws its codes: the seed decides
    (written,) = adapter.answer([request(AQA, tone, "which is this")])
    assert isinstance(written, Response) and written.wav is None and written.text == first.text


def test_our_own_model_as_any_other(tiny_checkpoint: Path, tmp_path: Path) -> None:
    adapter = PipelineAdapter(str(tiny_checkpoint), "cpu")
    assert adapter.jobs == {ASR, AQA, CONVERSATION, TTS}
    tone = write_tone(tmp_path / "a.wav", 0.5)
    (answer,) = adapter.answer([request(CONVERSATION, tone)])
    expected = SpikeAudio.from_pretrained(tiny_checkpoint).chat(str(tone))
    assert isinstance(answer, Response), answer
    assert answer.sampling_rate == expected.sampling_rate and answer.wav is not None and answer.wav.std() > 0


def test_models_that_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a folder nor a model of the Hub"):
        PipelineAdapter(str(tmp_path / "gone"), "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"no audio pipeline takes .*: a model of the type bert"):
        PipelineAdapter(str(tmp_path), "cpu")
