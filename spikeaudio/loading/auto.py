"""The language model with ears and a voice: the classes that transformers' pipelines load from a checkpoint folder.

`SpikeAudioForConditionalGeneration` turns ids into ids. The three classes here have the same weights, and find the
checkpoint's other parts in the folder that they were loaded from, the first time these are needed:

    SpikeAudioForSpeechGeneration   any-to-any       prompt      -> text, and in mode "audio" the wave (`audio`)
    SpikeAudioForSpeechSeq2Seq      recognition      samples     -> text
    SpikeAudioForTextToWaveform     text-to-audio    text prompt -> the wave of that text, read aloud

The parts are not modules of the model: its parameters, `state_dict` and saved files stay those of the language model.
"""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from spikeaudio.checkpoint import checkpoint_folder
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.generation import SpikeAudioGenerateOutput
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.prompt.conversation import layout_of
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.prompt.raw_audio import SAMPLING_RATE
from spikeaudio.speech.decoder import SpeechDecoder
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.reading import Reader, sentences_of_prompt
from spikeaudio.speech.seeds import as_seed


class CheckpointParts:
    """Processor and speech decoder of a checkpoint, each loaded when first asked for."""

    def __init__(self, folder: str | Path, device: torch.device) -> None:
        self.folder = folder
        self.device = device

    @cached_property
    def processor(self) -> SpikeAudioProcessor:
        """The processor; its speech tokenizer stays on the CPU."""
        return SpikeAudioProcessor.from_pretrained(checkpoint_folder(self.folder))

    @cached_property
    def decoder(self) -> SpeechDecoder:
        """The speech decoder, in float32 on the model's device."""
        return SpeechDecoder.from_pretrained(checkpoint_folder(self.folder), self.device)


class SpikeAudioForSpeechGeneration(SpikeAudioForConditionalGeneration):
    """`generate` also returns the waves of what it says. Give `parts` to a model that was not loaded from a folder."""

    def __init__(self, config: SpikeAudioConfig) -> None:
        super().__init__(config)
        self._parts: CheckpointParts | None = None

    @property
    def parts(self) -> CheckpointParts:
        """The rest of the checkpoint."""
        if self._parts is None:
            self._parts = CheckpointParts(self.config._name_or_path, self.device)
        return self._parts

    @parts.setter
    def parts(self, parts: CheckpointParts) -> None:
        self._parts = parts

    def generate(  # type: ignore[override]
        self,
        inputs: Tensor | None = None,
        *args: Any,
        generation_mode: str | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> SpikeAudioGenerateOutput | Tensor:
        """As the language model's `generate`; in mode "audio" it always returns an object, and fills its `audio`.

        Args:
            inputs: as there.
            *args: as there.
            generation_mode: "text" or "audio"; the prompt's own request for a written or spoken answer is set to it.
            seed: of the speech decoder's noise.
            **kwargs: as there.

        Raises:
            ValueError: mode "audio" on a checkpoint without detokenizer/ or vocoder/.
        """
        mode = generation_mode or getattr(self.generation_config, "generation_mode", None) or "text"
        if (audio_ids := kwargs.get("audio_input_ids")) is not None:
            layout = layout_of(self.config)
            modes = audio_ids.new_tensor([layout.speech_text_token_id, layout.speech_both_token_id])
            wanted = layout.mode_token_id(mode)  # type: ignore[arg-type]
            kwargs["audio_input_ids"] = audio_ids.masked_fill(torch.isin(audio_ids, modes), wanted)
        if mode == "text":
            return super().generate(inputs, *args, generation_mode=mode, **kwargs)
        decoder = self.parts.decoder  # before the work: what is missing is said at once
        kwargs["return_dict_in_generate"] = True
        output = super().generate(inputs, *args, generation_mode=mode, **kwargs)
        assert isinstance(output, SpikeAudioGenerateOutput) and output.audio_codes is not None
        output.audio = [decoder.decode(codes.cpu(), seed) for codes in output.audio_codes]
        return output


class SpikeAudioForSpeechSeq2Seq(SpikeAudioForSpeechGeneration):
    """Samples to text.

    transformers' recognition pipeline passes the samples under the name of the model's main input, which `generate`
    also needs for the prompt that is made of them: so `input_ids` of a floating dtype are samples.
    """

    def generate(  # type: ignore[override]
        self,
        inputs: Tensor | None = None,
        *args: Any,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> SpikeAudioGenerateOutput | Tensor:
        """Transcribe recordings.

        Args:
            inputs: as `input_ids`.
            *args: for `SpikeAudioForSpeechGeneration.generate`.
            input_ids: (B, N) floating: samples at 16 kHz. Long: the text stream of a prompt, which is continued.
            attention_mask: (B, N), 0 where a shorter recording is padded; or the prompt's.
            **kwargs: for `SpikeAudioForSpeechGeneration.generate`.

        Returns:
            As the language model's `generate`; of recordings, `sequences` (B, T) holds the transcripts alone.
        """
        given = inputs if input_ids is None else input_ids
        if given is None or not given.is_floating_point():
            return super().generate(given, *args, attention_mask=attention_mask, **kwargs)
        mask = torch.ones_like(given, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        wavs = [row[real].float().cpu() for row, real in zip(given, mask, strict=True)]
        prompt = self.parts.processor.apply_transcription_request(wavs, sampling_rate=SAMPLING_RATE)
        prompt = prompt.to(device=self.device, dtype=self.dtype)
        length = prompt["input_ids"].shape[1]
        output = super().generate(prompt.pop("input_ids"), *args, generation_mode="text", **prompt, **kwargs)
        if isinstance(output, Tensor):
            return output[:, length:]
        assert output.sequences is not None
        output.sequences = output.sequences[:, length:]
        return output


class SpikeAudioForTextToWaveform(SpikeAudioForSpeechGeneration):
    """Text to wave: the words of the prompt are read aloud, whatever else the prompt asks for.

    It is the road of `SpikeAudio.speak`: the same sentences, pauses, seeds and candidates.

    >>> from transformers import pipeline
    >>> read = pipeline("text-to-audio", model="checkpoints/spikeaudio-tiny")
    >>> read("Snow is white. Seven plus 5 is 12.")["sampling_rate"]
    24000
    """

    def generate(  # type: ignore[override]
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_ids: Tensor | None = None,
        seed: int | None = 0,
        candidates: int | None = None,
        **kwargs: Any,
    ) -> SpikeAudioGenerateOutput:
        """Read texts aloud.

        Args:
            inputs: as `input_ids`.
            generation_config: as for the language model's `generate`.
            input_ids: (B, T) text stream of a prompt; its text ids are what is read.
            seed: Seed of every random number, for each text; None: another speech each time.
            candidates: Attempts at each sentence, at most; None: as many as the checkpoint's generation config says.
            **kwargs: for the language model's `generate`; the rest of the prompt is not looked at.

        Returns:
            `audio` holds one wave (N,) per text, `audio_codes` its codes (S,).

        Raises:
            ValueError: no ids, or a row without text.
        """
        ids = inputs if input_ids is None else input_ids
        if ids is None:
            raise ValueError("expected input_ids, the text to read aloud")
        processor = self.parts.processor
        for name in (*processor.model_input_names, "generation_mode", "return_dict_in_generate"):
            kwargs.pop(name, None)
        if generation_config is not None:
            kwargs["generation_config"] = generation_config
            if generation_config.max_new_tokens is not None:
                kwargs.setdefault("max_new_tokens", generation_config.max_new_tokens)
        generator = Generator(self, processor, partial(SpikeAudioForConditionalGeneration.generate, self))
        reader = Reader(generator, self.parts.decoder, candidates=candidates)
        texts = [sentences_of_prompt(row, processor) for row in ids]
        if not all(texts):
            raise ValueError("a row of input_ids holds no text to read aloud")
        said = [reader.read(sentences, as_seed(seed), **kwargs) for sentences in texts]
        return SpikeAudioGenerateOutput(
            audio_codes=[speech.codes for speech in said], audio=[speech.wav for speech in said]
        )
