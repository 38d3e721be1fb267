"""The plain transformers surface on a random checkpoint: Auto classes, the three pipelines, streamers, peft."""

from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForTextToWaveform,
    AutoProcessor,
    TextIteratorStreamer,
    TextStreamer,
    Trainer,
    TrainingArguments,
    pipeline,
)

import spikeaudio  # noqa: F401 (registers)
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.loading.auto import Companions, SpikeAudioForSpeechGeneration
from spikeaudio.pipeline import SpikeAudio
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.events import AudioEvent, TextEvent
from spikeaudio.speech.streamer import AudioTextStreamer

RATE = 16000
SAMPLED: dict[str, Any] = {"generation_mode": "audio", "audio_temperature": 1.0, "audio_top_k": 0, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def processor(tiny_checkpoint: Path) -> SpikeAudioProcessor:
    return AutoProcessor.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> SpikeAudioForSpeechGeneration:
    return AutoModelForMultimodalLM.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def wav() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(RATE) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def messages(wav: np.ndarray) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "audio", "audio": wav}]}]


# -- Auto classes ------------------------------------------------------------------------------------------------------


def test_auto_classes(tiny_checkpoint: Path, model: Any, processor: Any) -> None:
    assert isinstance(AutoConfig.from_pretrained(tiny_checkpoint), SpikeAudioConfig)
    assert isinstance(processor, SpikeAudioProcessor)
    assert isinstance(model, SpikeAudioForSpeechGeneration)
    plain = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    assert type(plain) is SpikeAudioForConditionalGeneration
    assert set(plain.state_dict()) == set(model.state_dict())


def test_model_round_trip_is_bit_equal(model: Any, messages: Any, processor: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    prompt = processor.apply_chat_template(messages)
    for key in ("logits", "audio_logits"):
        assert torch.equal(model(**prompt)[key], again(**prompt)[key])


# -- generate ----------------------------------------------------------------------------------------------------------


def test_generate_fills_audio(model: Any, processor: Any, messages: Any, random_model: SpikeAudio) -> None:
    prompt = processor.apply_chat_template(messages, output_modalities="both")
    output = model.generate(**prompt, generation_mode="audio", return_dict_in_generate=True, max_new_tokens=12)
    assert output.sequences.shape == output.audio_sequences.shape
    assert len(output.audio_codes) == len(output.audio) == 1
    assert torch.equal(output.audio[0], random_model.decoder.decode(output.audio_codes[0]))


def test_generation_mode_overrules_the_prompt(model: Any, processor: Any, messages: Any) -> None:
    """The any-to-any pipeline makes its prompt without knowing the mode."""
    written = processor.apply_chat_template(messages)
    spoken = processor.apply_chat_template(messages, output_modalities="both")
    outputs = [model.generate(**prompt, generation_mode="audio", max_new_tokens=8) for prompt in (written, spoken)]
    assert torch.equal(outputs[0].audio_sequences, outputs[1].audio_sequences)
    assert torch.equal(outputs[0].sequences, outputs[1].sequences)


def test_sampling_with_a_generator_repeats(model: Any, processor: Any, messages: Any) -> None:
    prompt = processor.apply_chat_template(messages, output_modalities="both")

    def run(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        output = model.generate(**prompt, **SAMPLED, do_sample=True, temperature=1.5, generator=generator)
        return [output.sequences[0].tolist(), output.audio_sequences[0].tolist()]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_text_streamers(model: Any, processor: Any, messages: Any, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = processor.apply_chat_template(messages)
    length = prompt["input_ids"].shape[1]
    options: dict[str, Any] = {"skip_prompt": True, "skip_special_tokens": True}
    printing = TextStreamer(processor.tokenizer, **options)
    expected = processor.decode(model.generate(**prompt, streamer=printing)[0, length:])
    assert capsys.readouterr().out.strip() == expected
    iterating = TextIteratorStreamer(processor.tokenizer, **options)
    thread = Thread(target=model.generate, kwargs={**prompt, "streamer": iterating})
    thread.start()
    assert "".join(iterating) == expected
    thread.join()


def test_audio_text_streamer(model: Any, processor: Any, messages: Any, random_model: SpikeAudio) -> None:
    prompt = processor.apply_chat_template(messages, output_modalities="both")
    options = {**prompt, **SAMPLED, "max_new_tokens": 30}
    expected = model.generate(**options, generator=torch.Generator().manual_seed(0))
    streamer = AudioTextStreamer(processor, random_model.decoder)
    options |= {"streamer": streamer, "generator": torch.Generator().manual_seed(0)}
    thread = Thread(target=model.generate, kwargs=options)
    thread.start()
    events = list(streamer)
    thread.join()
    text = processor.decode_answer(expected.sequences[0, prompt["input_ids"].shape[1] :]).text
    assert "".join(event.text for event in events if isinstance(event, TextEvent)) == text
    wavs = [event.wav for event in events if isinstance(event, AudioEvent)]
    torch.testing.assert_close(torch.cat([torch.zeros(0), *wavs]), expected.audio[0], atol=1e-5, rtol=0)


def test_audio_text_streamer_takes_one_row(processor: Any) -> None:
    with pytest.raises(ValueError, match="got a batch of 2"):
        AudioTextStreamer(processor).put(torch.zeros(2, 3))


def test_generate_without_voice(model: Any, processor: Any, messages: Any, tmp_path: Path) -> None:
    SpikeAudioForConditionalGeneration.from_pretrained(model.companions.folder).save_pretrained(tmp_path)
    mute = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    prompt = processor.apply_chat_template(messages)
    assert mute.generate(**prompt, max_new_tokens=2).shape[0] == 1
    with pytest.raises(ValueError, match="cannot speak: it has no detokenizer/ and no vocoder/"):
        mute.generate(**prompt, generation_mode="audio", max_new_tokens=2)
    mute.companions = Companions(model.companions.folder, torch.device("cpu"))
    assert mute.generate(**prompt, generation_mode="audio", max_new_tokens=2).audio is not None


# -- pipelines ---------------------------------------------------------------------------------------------------------


def test_speech_recognition_pipeline(tiny_checkpoint: Path, wav: np.ndarray, random_model: SpikeAudio) -> None:
    recognize = pipeline("automatic-speech-recognition", model=str(tiny_checkpoint), device="cpu")
    options = {"generate_kwargs": {"max_new_tokens": 29}}  # as `transcribe` for 13 codes
    assert recognize(wav, **options) == {"text": random_model.transcribe(wav)}
    assert recognize({"raw": wav, "sampling_rate": RATE}, **options)["text"] == random_model.transcribe(wav)
    for integers in ((wav * 32767).astype(np.int16), (wav * 127 + 128).astype(np.uint8)):
        assert recognize(integers.copy(), **options) == {"text": random_model.transcribe(integers)}
    batch = recognize([wav, wav[:8000]], batch_size=2, **options)
    assert [item["text"] for item in batch] == random_model.transcribe([wav, wav[:8000]])


def test_text_to_audio_pipeline(tiny_checkpoint: Path, random_model: SpikeAudio) -> None:
    speak = pipeline("text-to-audio", model=str(tiny_checkpoint), device="cpu")
    result = speak("hello world", generate_kwargs={"max_new_tokens": 20})
    expected = random_model.speak("hello world", max_new_tokens=20)
    assert result["sampling_rate"] == 24000
    np.testing.assert_array_equal(result["audio"], expected.wav.numpy())
    chat = speak([{"role": "user", "content": "hello world"}], generate_kwargs={"max_new_tokens": 20})
    np.testing.assert_array_equal(chat["audio"], expected.wav.numpy())


def test_text_to_waveform_reads_a_batch(tiny_checkpoint: Path, processor: Any, random_model: SpikeAudio) -> None:
    model = AutoModelForTextToWaveform.from_pretrained(tiny_checkpoint)
    output = model.generate(**processor(["hello world", "how are you"]), max_new_tokens=20)
    for text, wave in zip(["hello world", "how are you"], output.audio, strict=True):
        torch.testing.assert_close(wave, random_model.speak(text, max_new_tokens=20).wav, atol=1e-4, rtol=0)


@pytest.mark.parametrize("text", ["Hello world. How are you?", "Dr. Smith said: hello! 你好.", "word " * 50])
def test_text_to_audio_reads_sentences_as_the_facade_does(
    tiny_checkpoint: Path, random_model: SpikeAudio, text: str
) -> None:
    speak = pipeline("text-to-audio", model=str(tiny_checkpoint), device="cpu")
    options: dict[str, Any] = {"max_new_tokens": 10, "audio_temperature": 1.0, "seed": 4, "candidates": 2}
    expected = random_model.speak(text, **options).wav.numpy()
    np.testing.assert_array_equal(speak(text, generate_kwargs=options)["audio"], expected)
    np.testing.assert_array_equal(speak(text, forward_params=options)["audio"], expected)
    batched = speak([text, "hello"], batch_size=2, generate_kwargs=options)
    np.testing.assert_array_equal(batched[0]["audio"], expected)
    np.testing.assert_array_equal(batched[1]["audio"], random_model.speak("hello", **options).wav.numpy())


def test_any_to_any_pipeline(tiny_checkpoint: Path, messages: Any, wav: np.ndarray, random_model: SpikeAudio) -> None:
    respond = pipeline("any-to-any", model=str(tiny_checkpoint), device="cpu")
    text = respond(text=messages, max_new_tokens=8, return_full_text=False)[0]["generated_text"]
    assert text.strip() == random_model.chat(messages, speech=False, max_new_tokens=8).text
    spoken = respond(text=messages, max_new_tokens=12, generation_mode="audio")[0]["generated_audio"]
    expected = random_model.chat(messages, max_new_tokens=12)
    assert expected.wav is not None
    np.testing.assert_array_equal(spoken, expected.wav.numpy())
    pair = respond(text="hello", audio=wav, max_new_tokens=8, return_full_text=False)[0]["generated_text"]
    assert pair.strip() == text.strip()


# -- peft --------------------------------------------------------------------------------------------------------------


def test_lora_attaches_and_learns(tiny_checkpoint: Path, processor: Any, messages: Any, tmp_path: Path) -> None:
    base = AutoModelForMultimodalLM.from_pretrained(tiny_checkpoint)
    targets = ["q_proj", "v_proj", "up_proj"]
    model = get_peft_model(base, LoraConfig(r=2, target_modules=targets))
    prompt = processor.apply_chat_template(messages)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    losses = []
    for _ in range(3):
        loss = model(**prompt, labels=prompt["input_ids"], audio_labels=prompt["audio_input_ids"]).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {"model"}
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("audio_layers" in name for name in trained)
    model.eval().save_pretrained(tmp_path)
    fresh = AutoModelForMultimodalLM.from_pretrained(tiny_checkpoint)
    again = PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert torch.equal(model(**prompt).logits, again(**prompt).logits)
    assert again.generate(**prompt, max_new_tokens=3).shape[1] == prompt["input_ids"].shape[1] + 3


def test_saved_by_the_auto_classes_it_keeps_ears_and_voice(tiny_checkpoint: Path, tmp_path: Path) -> None:
    AutoModelForMultimodalLM.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path)
    before, after = SpikeAudio.from_pretrained(tiny_checkpoint), SpikeAudio.from_pretrained(tmp_path)
    wav = torch.sin(torch.arange(8000) / 9)
    assert after.transcribe(wav) == before.transcribe(wav)
    assert torch.equal(after.detokenize([3, 1, 4]), before.detokenize([3, 1, 4]))


@pytest.mark.parametrize("processing_class", [True, False])
def test_a_checkpoint_of_the_trainer_loads(tiny_checkpoint: Path, tmp_path: Path, processing_class: bool) -> None:
    model = AutoModelForMultimodalLM.from_pretrained(tiny_checkpoint)
    ids = torch.arange(12) + 3
    example = {"input_ids": ids, "audio_input_ids": ids, "labels": ids, "audio_labels": ids}
    settings = TrainingArguments(tmp_path, max_steps=1, save_steps=1, report_to=[], use_cpu=True, disable_tqdm=True)
    settings.remove_unused_columns = False
    processor = AutoProcessor.from_pretrained(tiny_checkpoint) if processing_class else None
    Trainer(model, settings, train_dataset=[example] * 2, processing_class=processor).train()
    trained = SpikeAudio.from_pretrained(tmp_path / "checkpoint-1")
    assert trained.processor.hears and len(trained.detokenize([3, 1, 4])) == 3 * 1920


def test_a_folder_without_a_tokenizer_says_what_to_do(tiny_checkpoint: Path, tmp_path: Path) -> None:
    SpikeAudioForConditionalGeneration.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="processing_class=processor"):
        SpikeAudio.from_pretrained(tmp_path)
