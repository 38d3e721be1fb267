"""SpikeAudio: the whole model behind five verbs.

    model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
    model.transcribe("a.wav")                  model.speak("hello", "out.wav")
    model.ask("a.wav", "Who speaks?")          model.chat("question.wav").text
    for event in model.stream([{"role": "user", "content": [{"type": "audio", "path": "question.wav"}]}]): ...

It joins the parts of a checkpoint and checks, once, that they belong together. A checkpoint that cannot hear or cannot
speak loads all the same; the verb that needs the missing part says so. Nothing of a conversation stays on the object.

A long recording is cut at pauses into pieces the model can take, a long text between sentences: the language model's
context is bounded, and so is the memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikeaudio.audio.files import save_audio
from spikeaudio.audio.samples import resample
from spikeaudio.checkpoint import DETOKENIZER, VOCODER, missing_parts
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.loading.contract import check_parts
from spikeaudio.loading.reader import read_checkpoint
from spikeaudio.prompt.messages import Audio, Messages, is_batch, load_recording
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.prompt.raw_audio import SAMPLING_RATE
from spikeaudio.speech import reading, transcription
from spikeaudio.speech.answering import Answering, Speaker
from spikeaudio.speech.conversation import Conversation, as_messages
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.events import AudioEvent, Event
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.result import Reply, Speech
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer


class SpikeAudio:
    """A loaded checkpoint.

    Args:
        model: the language model.
        processor: texts and recordings to prompts.
        decoder: codes to speech; None for a model that only writes.
        folder: where it came from, for messages.

    Raises:
        ValueError: the parts do not belong together.
    """

    def __init__(
        self,
        model: SpikeAudioForConditionalGeneration,
        processor: SpikeAudioProcessor,
        decoder: SpeechDecoder | None = None,
        folder: str | Path | None = None,
    ) -> None:
        check_parts(model, processor, decoder)
        self.model = model.eval()
        self.processor = processor
        self._decoder = decoder
        self._folder = folder
        self._generator = Generator(self.model, processor)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        device_map: Any = None,
        speech_tokenizer: str | Path | None = None,
    ) -> "SpikeAudio":
        """Load a checkpoint folder: one of ours, or an unmodified download of Kimi-Audio.

        Packed weights of a small spiking model (up to 64 MiB unpacked) are kept unpacked in memory, which is faster;
        those of a larger one are unpacked at every call, unless you ask for
        `spikeaudio.spiking.conversion.keep_unpacked` on its `model`. Both give the same numbers.

        Args:
            folder: the checkpoint.
            device: where to run; None: the CPU.
            dtype: of the weights in memory; None: float32; "auto": as they are stored.
            device_map: spreads the language model over devices, as in transformers; instead of `device`.
            speech_tokenizer: folder of the GLM-4-Voice tokenizer, if it lies neither in a download nor beside it.

        Raises:
            FileNotFoundError: no such folder, or no checkpoint in it, or a file of it is missing.
            ValueError: a file is damaged, a configuration has unknown keys, or the parts do not belong together.
        """
        parts = read_checkpoint(folder, device, dtype, device_map, speech_tokenizer)
        return cls(*parts, folder=folder)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the whole checkpoint; loading it gives the same weights, bit for bit."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        if self._decoder is not None:
            self._decoder.save_pretrained(folder)

    @property
    def tokenizer(self) -> SpeechTokenizer:
        """The speech tokenizer: wav -> codes and features. ValueError where the checkpoint has none."""
        return self.processor.speech_tokenizer

    @property
    def decoder(self) -> SpeechDecoder:
        """The speech decoder: codes -> wav. ValueError where the checkpoint has none."""
        if self._decoder is None:
            where = "this model" if self._folder is None else f"the checkpoint {self._folder}"
            missing = (
                [DETOKENIZER, VOCODER] if self._folder is None else missing_parts(self._folder, DETOKENIZER, VOCODER)
            )
            raise ValueError(f"{where} cannot speak: it has no {' and no '.join(f'{part}/' for part in missing)}")
        return self._decoder

    @property
    def detokenizer(self) -> torch.nn.Module:
        """Codes -> mel."""
        return self.decoder.detokenizer

    @property
    def vocoder(self) -> torch.nn.Module:
        """Mel -> wav."""
        return self.decoder.vocoder

    # -- hearing ---------------------------------------------------------------------------------------------------

    def transcribe(
        self, audio: Audio | Sequence[Audio], sampling_rate: int | None = None, **generation: Any
    ) -> str | list[str]:
        """What is said in one recording, or in each of a list.

        Args:
            audio: a path, or samples; any length.
            sampling_rate: Hz of samples given as arrays; None: 16 kHz.
            generation: keywords for the language model's `generate`.

        Returns:
            A transcript, or a list of them for a list. Silence gives an empty one.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not audio, no samples, NaN or infinity; or a checkpoint that cannot hear.
        """
        recordings: Sequence[Any] = audio if (many := is_batch(audio)) else [audio]
        wavs = (self.processor.load(recording, sampling_rate) for recording in recordings)
        texts = transcription.transcribe(self._generator, wavs, **generation)
        return texts if many else texts[0]

    def ask(self, audio: Audio, question: str, sampling_rate: int | None = None, **generation: Any) -> str:
        """The written answer to a question about a recording.

        Args:
            audio: a path, or samples at `sampling_rate` Hz (None: 16 kHz).
            question: about it, in words.
            sampling_rate: Hz of samples given as an array.
            generation: keywords for the language model's `generate`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a bad recording or question, a recording that is too long, or a checkpoint that cannot hear.
        """
        prompt = self.processor(question, audio, sampling_rate=sampling_rate)
        output, length = self._generator(prompt, "text", **generation)
        assert output.sequences is not None
        return self.processor.decode_answer(output.sequences[0, length:].cpu()).text

    # -- speaking --------------------------------------------------------------------------------------------------

    def speak(
        self,
        text: str,
        output: str | Path | None = None,
        seed: int = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        **generation: Any,
    ) -> Speech:
        """Read a text aloud.

        Args:
            text: any length; sentences are read one by one.
            output: audio file to write as well.
            seed: of every random number; the same seed says the same again.
            voice: a short recording of the voice to speak with, as path or samples; None: the checkpoint's own.
            sampling_rate: Hz of a voice given as samples; None: 16 kHz.
            generation: keywords for the language model's `generate`, such as `audio_temperature`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the text is empty or holds nothing that can be said, a voice that is no recording or too long,
                or a checkpoint that cannot speak.
        """
        timbre = self._voice(voice, sampling_rate)
        speech = reading.read(self._generator, self.decoder, text, seed, timbre, **generation)
        if output is not None:
            save_audio(output, speech.wav, speech.sampling_rate)
        return speech

    def speak_stream(
        self,
        text: str,
        seed: int = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        **generation: Any,
    ) -> Iterator[AudioEvent]:
        """`speak`, sound by sound; takes the same arguments, but for the file.

        Yields:
            AudioEvent as the sounds come about, and a PauseEvent between two sentences; joined they are `speak`'s wav.
        """
        timbre = self._voice(voice, sampling_rate)
        yield from reading.read_stream(self._generator, self.decoder, text, seed, timbre, **generation)

    def detokenize(self, codes: Tensor | Sequence[int], seed: int = 0) -> Tensor:
        """Speech of codes: (S,) -> (N,) float32 at ``decoder.sampling_rate``.

        Raises:
            ValueError: no codes, or one out of range; or a checkpoint that cannot speak.
        """
        codes = torch.as_tensor(codes)
        if codes.ndim != 1 or codes.numel() == 0 or codes.is_floating_point():
            raise ValueError(
                f"codes must be a sequence of at least one integer, got shape {tuple(codes.shape)} of {codes.dtype}"
            )
        return self.decoder.decode(codes.long(), seed)

    # -- conversation ----------------------------------------------------------------------------------------------

    def chat(
        self,
        audio: Audio | Messages,
        sampling_rate: int | None = None,
        speech: bool = True,
        seed: int = 0,
        voice: Audio | None = None,
        **generation: Any,
    ) -> Reply:
        """Answer a spoken question, or the last message of a conversation.

        A checkpoint may declare limits (:class:`~spikeaudio.prompt.limits.Limits`). Then an answer that the model is
        not sure of is replaced by one that says so (`Reply.understood`), a typed question is answered in writing and
        the answer read aloud, and a conversation of too many turns is refused.

        Args:
            audio: a path, samples, or messages as for `SpikeAudioProcessor.apply_chat_template`.
            sampling_rate: Hz of samples given as arrays; None: 16 kHz.
            speech: answer aloud as well.
            seed: of every random number.
            voice: a short recording of the voice to answer with, as `audio`; None: the checkpoint's own.
            generation: keywords for the language model's `generate`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a bad recording or message, more turns than the checkpoint learned; or a checkpoint without
                the part that this needs.

        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> reply = model.chat("spikeaudio/samples/question.wav")
        >>> reply.question, reply.text
        ('what is the capital of england', 'the capital of england is london')
        """
        speaker, messages = self._speaker(speech, seed, voice, sampling_rate), as_messages(audio)
        prompt, mode = speaker.prompt(messages, sampling_rate)
        return Answering(speaker, prompt, mode, **generation).reply()

    def stream(
        self,
        audio: Audio | Messages,
        sampling_rate: int | None = None,
        speech: bool = True,
        seed: int = 0,
        voice: Audio | None = None,
        **generation: Any,
    ) -> Iterator[Event]:
        """`chat`, word by word and sound by sound; takes the same arguments.

        What is wrong with the arguments is said by this call. The model works while you iterate, in your thread: a
        stream that you close, or drop, has stopped.

        Returns:
            Iterator over TextEvent and AudioEvent in the order in which they come about; the sounds joined are
            `chat`'s wav.

        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> events = model.stream("spikeaudio/samples/question.wav", speech=False)
        >>> "".join(event.text for event in events if not event.thought)
        'the capital of england is london'
        """
        speaker, messages = self._speaker(speech, seed, voice, sampling_rate), as_messages(audio)
        prompt, mode = speaker.prompt(messages, sampling_rate)
        return Answering(speaker, prompt, mode, **generation).events()

    def conversation(
        self,
        memory: int | None = None,
        speech: bool = True,
        seed: int = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        **generation: Any,
    ) -> Conversation:
        """A conversation of several turns, each of which costs the model its own positions alone.

        Args:
            memory: Number of past turns that the model is shown, at most; None: as many as it learned and can hold.
            speech: answer aloud as well.
            seed: Seed of every random number.
            voice: a short recording of the voice to answer with; None: the checkpoint's own.
            sampling_rate: Hz of recordings given as arrays, the voice included; None: 16 kHz.
            generation: keywords for the language model's `generate`.

        Raises:
            ValueError: more memory than the checkpoint learned; or a checkpoint without the part that this needs.

        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> conversation = model.conversation()
        >>> reply = conversation.say("good morning")
        >>> reply.text, len(reply.wav) > 0
        ('good morning to you', True)
        """
        speaker = self._speaker(speech, seed, voice, sampling_rate)
        return Conversation(speaker, memory, sampling_rate, **generation)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _speaker(self, speech: bool, seed: int, voice: Audio | None, sampling_rate: int | None) -> Speaker:
        if not speech:
            return Speaker(self._generator, seed=seed)
        return Speaker(self._generator, self.decoder, seed, self._voice(voice, sampling_rate))

    def _voice(self, voice: Audio | None, sampling_rate: int | None) -> VoicePrompt | None:
        """A recording of a voice, heard by the speech tokenizer and as mel."""
        if voice is None:
            return None
        rate = self.decoder.sampling_rate
        wav = load_recording(voice, rate, SAMPLING_RATE if sampling_rate is None else sampling_rate)
        return self.decoder.voice(wav, self.tokenizer.encode([resample(wav, rate, SAMPLING_RATE)])[0].codes)
