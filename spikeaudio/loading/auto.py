"""The language model with ears and a voice: the classes that transformers' pipelines load from a checkpoint folder.

`SpikeAudioForConditionalGeneration` turns ids into ids. The three classes here have the same weights, and find the
checkpoint's other parts in the folder that they were loaded from, the first time these are needed:

    SpikeAudioForSpeechGeneration   any-to-any       prompt      -> text, and in mode "audio" the wave (`audio`)
    SpikeAudioForSpeechSeq2Seq      recognition      samples     -> text
    SpikeAudioForTextToWaveform     text-to-audio    text prompt -> the wave of that text, read aloud

The parts are not modules of the model: its parameters, `state_dict` and saved files stay those of the language model.
"""

import shutil
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig

from spikeaudio.audio.samples import check_wav
from spikeaudio.checkpoint import DETOKENIZER, VOCODER, HubOptions, find_checkpoint, missing_parts
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.generation import SpikeAudioGenerateOutput
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.prompt.conversation import layout_of
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.reading import Reader, sentences_of_prompt
from spikeaudio.speech.seeds import as_seed
from spikeaudio.speech.transcription import utterances_of


class Companions:
    """Processor and speech decoder of a checkpoint, each loaded when first asked for."""

    def __init__(self, folder: str | Path, device: torch.device) -> None:
        self.folder = folder
        self.device = device

    @cached_property
    def processor(self) -> SpikeAudioProcessor:
        """The processor; its speech tokenizer stays on the CPU."""
        return SpikeAudioProcessor.from_pretrained(find_checkpoint(self.folder))

    @cached_property
    def decoder(self) -> SpeechDecoder:
        """The speech decoder, in float32 on the model's device."""
        return SpeechDecoder.from_pretrained(find_checkpoint(self.folder), self.device)

    @property
    def speaks(self) -> bool:
        """Whether there is a speech decoder to load."""
        return not missing_parts(find_checkpoint(self.folder), DETOKENIZER, VOCODER)

    def save(self, folder: Path) -> None:
        """Write processor and speech decoder beside a saved language model; what lies there already stays.

        Args:
            folder: the language model's new checkpoint.
        """
        if not (folder / "processor_config.json").is_file():
            self.processor.save_pretrained(folder)
        if self.speaks and missing_parts(folder, DETOKENIZER, VOCODER):
            self.save_decoder(folder)

    def save_decoder(self, folder: Path) -> None:
        """Write detokenizer and vocoder as they are stored."""
        for part in (DETOKENIZER, VOCODER):
            shutil.copytree(find_checkpoint(self.folder) / part, folder / part, dirs_exist_ok=True)


class SpikeAudioForSpeechGeneration(SpikeAudioForConditionalGeneration):
    """`generate` also returns the waves of what it says.

    Give `companions` to a model that was not loaded from a folder.
    """

    def __init__(self, config: SpikeAudioConfig) -> None:
        super().__init__(config)
        self._companions: Companions | None = None

    @property
    def companions(self) -> Companions:
        """The rest of the checkpoint."""
        if self._companions is None:
            self._companions = Companions(self.config._name_or_path, self.device)
        return self._companions

    @companions.setter
    def companions(self, companions: Companions) -> None:
        self._companions = companions

    @property
    def _has_companions(self) -> bool:
        if self._companions is not None:
            return True
        cached = HubOptions(local_files_only=True)  # saving asks no network
        try:
            return (find_checkpoint(self.config._name_or_path, cached) / "processor_config.json").is_file()
        except FileNotFoundError:
            return False

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write the whole checkpoint: the language model, and from its own folder the processor and the voice.

        So a folder that a `Trainer` writes hears and speaks. A model that came from no folder is written alone.

        Args:
            save_directory: folder to write to.
            *args: for transformers' `save_pretrained`.
            **kwargs: for transformers' `save_pretrained`.
        """
        super().save_pretrained(save_directory, *args, **kwargs)
        if self._has_companions and kwargs.get("is_main_process", True):
            self.companions.save(Path(save_directory))

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
            seed: seed of the speech decoder's noise.
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
        decoder = self.companions.decoder  # before the work: what is missing is said at once
        kwargs["return_dict_in_generate"] = True
        output = super().generate(inputs, *args, generation_mode=mode, **kwargs)
        assert isinstance(output, SpikeAudioGenerateOutput) and output.audio_codes is not None
        output.audio = [decoder.decode(codes.cpu(), seed) for codes in output.audio_codes]
        return output


_SAMPLES = (torch.uint8, torch.int16)  # integers of audio files, too short for ids


class SpikeAudioForSpeechSeq2Seq(SpikeAudioForSpeechGeneration):
    """Samples to text.

    transformers' recognition pipeline passes the samples under the name of the model's main input, `input_ids`.
    `generate` needs that name for the prompt that is made of them, too. So floats are samples, and so are integers as
    short as those of 16-bit audio.
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
            input_ids: (B, N) floating, uint8 or int16: samples at 16 kHz. Else the text stream of a prompt, which is
                continued.
            attention_mask: (B, N), 0 where a shorter recording is padded; or the prompt's.
            **kwargs: for `SpikeAudioForSpeechGeneration.generate`.

        Returns:
            As the language model's `generate`; of recordings, (B, T) transcripts alone, blank after their ends.
        """
        given = inputs if input_ids is None else input_ids
        if given is None or not (given.is_floating_point() or given.dtype in _SAMPLES):
            return super().generate(given, *args, attention_mask=attention_mask, **kwargs)
        mask = torch.ones_like(given, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        wavs = [check_wav(row[real]) for row, real in zip(given, mask, strict=True)]
        whole = kwargs.pop("return_dict_in_generate", False)
        heard = utterances_of(Generator(self, self.companions.processor), wavs, **kwargs)
        end = torch.tensor([self.config.text_eos_token_id])
        rows = [torch.cat([*(utterance.text.ids for utterance in said), end]) for _, said in heard]
        texts = pad_sequence(rows, batch_first=True, padding_value=self.config.blank_token_id).to(self.device)
        return SpikeAudioGenerateOutput(sequences=texts) if whole else texts


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
        processor = self.companions.processor
        for name in (*processor.model_input_names, "generation_mode", "return_dict_in_generate"):
            kwargs.pop(name, None)
        if generation_config is not None:
            kwargs["generation_config"] = generation_config
            if generation_config.max_new_tokens is not None:
                kwargs.setdefault("max_new_tokens", generation_config.max_new_tokens)
        generator = Generator(self, processor, partial(SpikeAudioForConditionalGeneration.generate, self))
        reader = Reader(generator, self.companions.decoder, candidates=candidates)
        texts = [sentences_of_prompt(row, processor) for row in ids]
        if not all(texts):
            raise ValueError("a row of input_ids holds no text to read aloud")
        said = [reader.read(sentences, as_seed(seed), **kwargs) for sentences in texts]
        return SpikeAudioGenerateOutput(
            audio_codes=[speech.codes for speech in said], audio=[speech.wav for speech in said]
        )
