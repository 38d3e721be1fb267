"""A whole checkpoint folder with tiny random weights: what every test of the surface and of the command line runs on.

It is complete (language model, processor, speech_tokenizer/, detokenizer/, vocoder/), half a megabyte, made in a second
or two, and says nothing sensible: tests that use it are about shapes, errors and equalities.
"""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperFeatureExtractor

from spikeaudio.detokenizer.configuration import DetokenizerConfig
from spikeaudio.detokenizer.modeling import FlowMatchingDetokenizer
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.processing import SpikeAudioProcessor
from spikeaudio.speech_decoder import SpeechDecoder
from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer
from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder
from spikeaudio.vocoder.configuration import VocosConfig
from spikeaudio.vocoder.vocos import VocosVocoder

NUM_CODES = 32
FEATURES = 16
TEXT_IDS = 64
CONTROL = "pad blank text_eos media_begin media_end msg_end user assistant speech_text speech_both think_end".split()
SENTENCES = [
    "please transcribe the following audio",
    "say hello world how are you",
    "what is two plus two",
    "the quick brown fox jumps over the lazy dog",
    "which instrument is this",
]


def text_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer made like the recipe's: words with a leading space mark, control tokens behind the text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT_IDS,
        special_tokens=["<unk>"],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz'"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([f"<|{name}|>" for name in CONTROL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|pad|>",
        eos_token="<|text_eos|>",
        padding_side="left",
    )


def language_model(
    tokenizer: PreTrainedTokenizerFast, thinks: bool = False, prompt_format: str = "spikeaudio"
) -> SpikeAudioForConditionalGeneration:
    """A two-stream model with random weights for the vocabulary of `tokenizer`."""
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in CONTROL}
    names = {"user": "user_start", "assistant": "assistant_start"}
    special = {f"{names.get(name, name)}_token_id": token for name, token in ids.items()}
    if not thinks:
        special["think_end_token_id"] = None
    config = SpikeAudioConfig(
        prompt_format=prompt_format,
        vocab_size=len(tokenizer) + NUM_CODES,
        audio_token_offset=len(tokenizer),
        num_audio_codes=NUM_CODES,
        audio_feature_dim=FEATURES,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_audio_layers=1,
        audio_branch_layer=1,
        audio_delay=2,
        max_position_embeddings=512,
        eos_token_id=ids["text_eos"],
        bos_token_id=None,
        **special,
    )
    torch.manual_seed(0)
    model = SpikeAudioForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig(
        pad_token_id=ids["pad"], eos_token_id=ids["text_eos"], max_new_tokens=24, num_beams=1, do_sample=False
    )
    return model


def speech_tokenizer() -> SpeechTokenizer:
    """A random 12.5 Hz tokenizer."""
    torch.manual_seed(1)
    encoder = WhisperVQEncoder(
        WhisperVQConfig(
            d_model=FEATURES,
            encoder_layers=2,
            encoder_attention_heads=2,
            encoder_ffn_dim=32,
            num_mel_bins=16,
            max_source_positions=1500,
            pooling_position=1,
            quantize_position=2,
            quantize_vocab_size=NUM_CODES,
        )
    )
    return SpeechTokenizer(WhisperFeatureExtractor(feature_size=16), encoder.eval())


def speech_decoder() -> SpeechDecoder:
    """A random detokenizer and vocoder for the codes of `speech_tokenizer`."""
    torch.manual_seed(2)
    detokenizer = FlowMatchingDetokenizer(
        DetokenizerConfig(
            num_codes=NUM_CODES,
            hidden_size=16,
            depth=1,
            num_heads=2,
            ode_steps=2,
            chunk_tokens=4,
            look_ahead_tokens=1,
            max_kv_frames=32,
        )
    )
    dit = detokenizer.dit
    for linear in (dit.mel_out, *(block.modulation for block in dit.blocks)):
        for parameter in linear.parameters():  # their own start, zero, would hide every difference
            torch.nn.init.normal_(parameter, std=0.2)
    vocoder = VocosVocoder(VocosConfig(hidden_size=16, intermediate_size=24, num_layers=1))
    return SpeechDecoder(detokenizer.eval(), vocoder.eval())


def write_checkpoint(folder: Path, thinks: bool = False, prompt_format: str = "spikeaudio") -> Path:
    """Assemble the whole checkpoint in `folder`."""
    tokenizer = text_tokenizer()
    model = language_model(tokenizer, thinks, prompt_format)
    model.save_pretrained(folder)
    SpikeAudioProcessor.of(model.config, tokenizer, speech_tokenizer()).save_pretrained(folder)
    speech_decoder().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a complete random checkpoint without thoughts; to change it, copy it with shutil.copytree."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "spikeaudio-random")


@pytest.fixture(scope="session")
def thinking_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_checkpoint`, for a model with a ``think_end_token_id``; random as it is, it never stops thinking."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "spikeaudio-random-thinking", thinks=True)
