"""A download of Kimi-Audio, unchanged: it loads, hears, answers and speaks, in one line and by the Auto classes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor

from spikeaudio import (
    BigVGAN,
    SpikeAudio,
    SpikeAudioConfig,
    SpikeAudioForConditionalGeneration,
    SpikeAudioModel,
    SpikeAudioProcessor,
)
from spikeaudio.loading.auto import SpikeAudioForSpeechGeneration, SpikeAudioForSpeechSeq2Seq
from spikeaudio.loading.kimi.auto import KimiAudioForSpeechSeq2Seq
from spikeaudio.loading.kimi.configuration import KimiAudioConfig, published_config
from spikeaudio.loading.kimi.folder import PublishedFolder
from spikeaudio.loading.kimi.reader import read_processor
from spikeaudio.speech.events import AudioEvent, TextEvent
from tests.fixtures.kimi_llm import KimiFixture
from tests.fixtures.published_folder import quiet_rows

pytestmark = pytest.mark.golden


@pytest.fixture(scope="module")
def model(published) -> SpikeAudio:
    return SpikeAudio.from_pretrained(published)


def conversation(clip: torch.Tensor) -> list[dict]:
    return [{"role": "user", "content": [{"type": "audio", "audio": clip.numpy()}]}]


def test_language_model_is_the_published_one(model, golden_dir):
    golden = golden_dir("kimi_llm_tiny")
    fixture = KimiFixture(golden)
    compared = 0
    for scenario in fixture.scenarios:
        inputs = fixture.inputs(scenario)
        with torch.no_grad():
            output = model.model(**inputs)
        seen = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        for ours, name, head in (
            (output.logits, "lm_head_logits", "lm_head.weight"),
            (output.audio_logits, "mimo_output_logits", "mimo_output.weight"),
        ):
            theirs = fixture.tensors[f"{scenario}.{name}"]
            same = torch.ones(theirs.shape[-1], dtype=torch.bool)
            same[quiet_rows(golden)[head]] = False  # these rows are another model's in the download
            ours = ours[..., : theirs.shape[-1]]
            torch.testing.assert_close(ours[seen][:, same], theirs[seen][:, same], rtol=0, atol=1e-4)
            compared += 1
    assert compared


def test_both_ears_are_the_published_ones(model, golden_dir):
    features = load_file(golden_dir("whisper_features_tiny") / "fixture.safetensors")
    codes = load_file(golden_dir("glm4_tokenizer_tiny") / "fixture.safetensors")
    names = [name.removesuffix(".waveform") for name in features if name.endswith(".waveform") and name in codes]
    assert names, "the two fixtures have no recording in common"
    prompts = model.processor(["say"] * len(names), [codes[f"{name}.waveform"].numpy() for name in names])
    assert "audio_features" not in prompts
    with torch.no_grad():
        heard = model.model.model.take_features(dict(prompts))
    offset = model.model.config.audio_token_offset
    for row, name in enumerate(names):
        mask = prompts["audio_feature_mask"][row]
        assert (prompts["audio_input_ids"][row][mask] - offset).tolist() == codes[f"{name}.token_ids"].tolist()
        expected = features[f"{name}.features_12p5hz"][0]
        torch.testing.assert_close(features[f"{name}.waveform"], codes[f"{name}.waveform"], rtol=0, atol=0)
        torch.testing.assert_close(heard[row, : len(expected)], expected, rtol=0, atol=1e-4)


def samples_per_code(model: SpikeAudio) -> int:
    frames: int = model.detokenizer.config.frames_per_code
    return frames * model.vocoder.config.hop_length


def test_it_transcribes_answers_and_speaks(model, clip):
    assert len(model.transcribe(clip, max_new_tokens=6)) > 0
    assert len(model.ask(clip, "Who speaks?", max_new_tokens=6)) > 0
    length = model.model.config.audio_delay + 14
    reply = model.chat(clip, max_new_tokens=length, seed=3)
    assert isinstance(model.vocoder, BigVGAN)
    assert reply.sampling_rate == model.vocoder.config.sampling_rate
    assert len(reply.wav) == samples_per_code(model) * len(reply.codes) > 0
    events = list(model.stream(conversation(clip), max_new_tokens=length, seed=3))
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == reply.text != ""
    torch.testing.assert_close(torch.cat([e.wav for e in events if isinstance(e, AudioEvent)]), reply.wav)


def test_a_prompt_of_several_conversations_is_that_of_each(model, clip):
    """Recordings of unequal length and a row without any, in one batch."""
    rows = [conversation(clip), conversation(clip[:20000]), [{"role": "user", "content": "hi"}]]
    with torch.no_grad():
        batch = model.model(**model.processor.apply_chat_template(rows)).logits[:, -1]
        for row, messages in zip(batch, rows, strict=True):
            alone = model.model(**model.processor.apply_chat_template(messages)).logits[0, -1]
            torch.testing.assert_close(row, alone, rtol=0, atol=1e-4)


def test_auto_classes(published, model, clip):
    assert isinstance(AutoConfig.from_pretrained(published), KimiAudioConfig)
    processor = AutoProcessor.from_pretrained(published)
    loaded = AutoModelForMultimodalLM.from_pretrained(published)
    assert isinstance(processor, SpikeAudioProcessor) and isinstance(loaded, SpikeAudioForSpeechGeneration)
    assert isinstance(loaded.config, SpikeAudioConfig) and loaded.dtype == torch.float32
    prompt = processor.apply_chat_template(conversation(clip), output_modalities="both")
    ours = model.processor.apply_chat_template(conversation(clip), output_modalities="both")
    assert prompt.keys() == ours.keys() and all(torch.equal(prompt[name], ours[name]) for name in prompt)
    length = model.model.config.audio_delay + 6
    output = loaded.generate(**prompt, generation_mode="audio", max_new_tokens=length, audio_temperature=0.0)
    assert len(output.audio) == 1
    assert len(output.audio[0]) == samples_per_code(model) * len(output.audio_codes[0]) > 0
    text = loaded.companions.processor.batch_decode(output.sequences[:, prompt["input_ids"].shape[1] :])
    assert len(text[0]) > 0
    assert isinstance(AutoModelForCausalLM.from_pretrained(published), SpikeAudioForConditionalGeneration)
    bare = AutoModel.from_pretrained(published)
    assert isinstance(bare, SpikeAudioModel)
    for name, tensor in bare.state_dict().items():
        assert torch.equal(tensor, model.model.model.state_dict()[name]), name
    assert isinstance(KimiAudioForSpeechSeq2Seq.from_pretrained(published), SpikeAudioForSpeechSeq2Seq)


def test_a_config_without_model_type(download, clip):
    config = json.loads((download / "config.json").read_text())
    del config["model_type"]
    (download / "config.json").write_text(json.dumps(config))
    model = SpikeAudio.from_pretrained(download)
    assert len(model.transcribe(clip, max_new_tokens=4)) > 0
    config = KimiAudioConfig.from_pretrained(download)
    loaded = AutoModelForMultimodalLM.from_pretrained(download, config=config)
    assert isinstance(loaded, SpikeAudioForSpeechGeneration)
    assert isinstance(AutoProcessor.from_pretrained(download, config=config), SpikeAudioProcessor)


def test_dtype_and_device_follow_the_arguments(download):
    config = json.loads((download / "config.json").read_text())
    (download / "config.json").write_text(json.dumps(config | {"torch_dtype": "bfloat16"}))
    assert AutoModelForMultimodalLM.from_pretrained(download).dtype == torch.bfloat16  # as published
    model = SpikeAudio.from_pretrained(download, dtype="auto", device_map="cpu")
    assert model.model.dtype == torch.bfloat16 and model.model.device.type == "cpu"
    assert model.model.model.audio_encoder.conv1.weight.dtype == torch.bfloat16
    assert model.detokenizer.dtype == model.vocoder.dtype == torch.float32  # as stored in their files
    model = SpikeAudio.from_pretrained(download)
    assert model.model.dtype == model.detokenizer.dtype == model.vocoder.dtype == torch.float32
    with pytest.raises(ValueError, match="either device or device_map"):
        SpikeAudio.from_pretrained(download, device="cpu", device_map="auto")


def test_the_release_s_settings(model, published):
    config, schedule = model.model.config, model.detokenizer.config
    theirs = json.loads((published / "config.json").read_text())
    ours = {
        "kimia_mimo_audiodelaytokens": config.audio_delay,
        "kimia_mimo_transformer_from_layer_index": config.audio_branch_layer,
        "kimia_mimo_layers": config.num_audio_layers,
        "num_base_tokens": config.num_text_tokens,
        "rope_theta": config.rope_parameters["rope_theta"],
    }
    assert ours == {name: theirs[name] for name in ours} and config.prompt_format == "kimi"
    assert config.pad_token_id == config.audio_token_offset - 1
    assert (schedule.chunk_tokens, schedule.look_ahead_tokens, schedule.max_kv_frames) == (30, 12, 900)
    assert (schedule.ode_steps, schedule.cfg_scale) == (29, 1.0)
    generation = model.model.generation_config
    assert (generation.audio_temperature, generation.audio_top_k, generation.do_sample) == (0.8, 10, False)
    mels = json.loads((published / "whisper-large-v3" / "config.json").read_text())["num_mel_bins"]
    assert model.processor.feature_encoder.settings == {"num_mel_bins": mels} and not model.processor.spell_out
    absent = KimiAudioConfig()  # what the published class takes for keys that a file leaves out
    assert (absent.kimia_mimo_audiodelaytokens, absent.rope_parameters["rope_theta"]) == (5, 10_000.0)
    assert published_config(published).num_hidden_layers == theirs["num_hidden_layers"]


def test_the_speech_tokenizer_lies_inside_or_beside_or_elsewhere(download, clip, tmp_path):
    beside = download.parent / "glm-4-voice-tokenizer"
    expected = read_processor(PublishedFolder(download)).hear([clip])[0].codes
    for place in (download / "speech_tokenizer", tmp_path / "elsewhere"):
        shutil.move(beside, place)
        given = None if place.parent == download else place
        assert torch.equal(read_processor(PublishedFolder(download, given)).hear([clip])[0].codes, expected)
        beside = place


def test_names_and_weights_say_which_file_they_are_from(download: Path):
    """Without its two speaking folders the model still writes."""
    shutil.rmtree(download / "vocoder")
    model = SpikeAudio.from_pretrained(download)
    with pytest.raises(ValueError, match="cannot speak: it has no"):
        model.speak("hello")
    loaded = AutoModelForMultimodalLM.from_pretrained(download)
    with pytest.raises(ValueError, match="cannot speak: it has no vocoder/"):
        _ = loaded.companions.decoder
