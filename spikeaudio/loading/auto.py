"""The language model with ears and a voice: the classes that transformers' pipelines load from a checkpoint folder.

`SpikeAudioForConditionalGeneration` turns ids into ids. The three classes here have the same weights, and find the
checkpoint's other parts in the folder that they were loaded from, the first time these are needed:

    SpikeAudioForSpeechGeneration   any-to-any       prompt      -> text, and in mode "audio" the wave (`audio`)
    SpikeAudioForSpeechSeq2Seq      recognition      samples     -> text
    SpikeAudioForTextToWaveform     text-to-audio    text prompt -> the wave of that text, read aloud

The parts are not modules of the model: its parameters, `state_dict` and saved files stay those of the language model.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from spikeaudio.audio.samples import check_wav
from spikeaudio.checkpoint import checkpoint_folder
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.forced_text import ForcedText
from spikeaudio.lm.generation import SpikeAudioGenerateOutput
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.prompt.conversation import layout_of, spoken_text_ids
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.transcription import utterances_of


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
        """Transcribe recordings of any length, cut at their pauses as `SpikeAudio.transcribe` does it.

        Args:
            inputs: as `input_ids`.
            *args: for `SpikeAudioForSpeechGeneration.generate`; none with samples.
            input_ids: (B, N) floating: samples at 16 kHz. Long: the text stream of a prompt, which is continued.
            attention_mask: (B, N), 0 where a shorter recording is padded; or the prompt's.
            **kwargs: for `SpikeAudioForSpeechGeneration.generate`.

        Returns:
            As the language model's `generate`; of recordings, (B, T) transcripts alone, blank after their ends.
        """
        given = inputs if input_ids is None else input_ids
        if given is None or not given.is_floating_point():
            return super().generate(given, *args, attention_mask=attention_mask, **kwargs)
        mask = torch.ones_like(given, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        wavs = [check_wav(row[real]) for row, real in zip(given, mask, strict=True)]
        whole = kwargs.pop("return_dict_in_generate", False)
        heard = utterances_of(Generator(self, self.parts.processor), wavs, **kwargs)
        end = torch.tensor([self.config.text_eos_token_id])
        rows = [torch.cat([*(utterance.text.ids for utterance in said), end]) for _, said in heard]
        texts = pad_sequence(rows, batch_first=True, padding_value=self.config.blank_token_id).to(self.device)
        return SpikeAudioGenerateOutput(sequences=texts) if whole else texts


class SpikeAudioForTextToWaveform(SpikeAudioForSpeechGeneration):
    """Text to wave: the words of the prompt are read aloud, whatever else the prompt asks for."""

    def generate(  # type: ignore[override]
        self, inputs: Tensor | None = None, *args: Any, input_ids: Tensor | None = None, **kwargs: Any
    ) -> SpikeAudioGenerateOutput:
        """Read texts aloud.

        Args:
            inputs: as `input_ids`.
            *args: for `SpikeAudioForSpeechGeneration.generate`.
            input_ids: (B, T) text stream of a prompt; its text ids are what is read.
            **kwargs: for `SpikeAudioForSpeechGeneration.generate`; the rest of the prompt is not looked at.

        Returns:
            `audio` holds one wave (N,) per text.
        """
        ids = inputs if input_ids is None else input_ids
        if ids is None:
            raise ValueError("expected input_ids, the text to read aloud")
        layout = layout_of(self.config)
        silent = ids.new_tensor([layout.blank_token_id, self.config.pad_token_id])
        texts = [row[~torch.isin(row, silent)].tolist() for row in ids]
        for name in (*self.parts.processor.model_input_names, "generation_mode"):
            kwargs.pop(name, None)
        prompt = self.parts.processor.read_aloud(texts).to(self.device)
        forced = ForcedText([spoken_text_ids(text, layout) for text in texts], prompt["input_ids"].shape[1])
        output = super().generate(
            prompt.pop("input_ids"), *args, generation_mode="audio", prefix_allowed_tokens_fn=forced, **prompt, **kwargs
        )
        assert isinstance(output, SpikeAudioGenerateOutput)
        return output
