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
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor

from spikeaudio.audio.files import save_audio
from spikeaudio.audio.tempo import change_tempo, check_speed
from spikeaudio.loading.joined import JoinedCheckpoint
from spikeaudio.prompt.messages import Audio, Messages, is_batch, load_recording
from spikeaudio.prompt.raw_audio import SAMPLING_RATE
from spikeaudio.speech import transcription
from spikeaudio.speech.answering import Answering, Speaker
from spikeaudio.speech.conversation import Conversation, as_messages
from spikeaudio.speech.decoder import VoicePrompt
from spikeaudio.speech.events import AudioEvent, Event
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.reading import Reader, sentences_of
from spikeaudio.speech.result import Reply, Speech, Transcript
from spikeaudio.speech.seeds import as_seed
from spikeaudio.speech.voice import voice_of


class SpikeAudio(JoinedCheckpoint):
    """A loaded checkpoint that hears, writes and speaks; `JoinedCheckpoint` says how it is loaded and saved.

    Example:
        >>> from spikeaudio import SpikeAudio
        >>> model = SpikeAudio.from_pretrained("spikeaudio-tiny")
        >>> model.transcribe("spikeaudio/samples/question.wav")
        'what is the capital of england'
        >>> model.ask("spikeaudio/samples/instrument.wav", "which instrument is this")
        'flute'
    """

    @property
    def _generator(self) -> Generator:
        return Generator(self.model, self.processor)

    # -- hearing ---------------------------------------------------------------------------------------------------

    @overload
    def transcribe(
        self, audio: Audio, sampling_rate: int | None = None, *, timestamps: Literal[False] = False, **generation: Any
    ) -> str: ...

    @overload
    def transcribe(
        self, audio: Audio, sampling_rate: int | None = None, *, timestamps: Literal[True], **generation: Any
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        audio: Sequence[Audio],
        sampling_rate: int | None = None,
        *,
        timestamps: Literal[False] = False,
        **generation: Any,
    ) -> list[str]: ...

    @overload
    def transcribe(
        self, audio: Sequence[Audio], sampling_rate: int | None = None, *, timestamps: Literal[True], **generation: Any
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        audio: Audio | Sequence[Audio],
        sampling_rate: int | None = None,
        *,
        timestamps: bool = False,
        **generation: Any,
    ) -> str | list[str] | Transcript | list[Transcript]:
        """What is said in one recording, or in each of a list.

        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> model.transcribe("spikeaudio/samples/question.wav")
        'what is the capital of england'

        Args:
            audio: a path, samples, or any other kind of :data:`~spikeaudio.audio.recording.Audio`; any length.
            sampling_rate: Hz of samples given as arrays; None: 16 kHz.
            timestamps: give a `Transcript` with times and scores in place of a text.
            generation: keywords for the language model's `generate`.

        Returns:
            A transcript, or a list of them for a list. A recording without speech gives an empty one.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not audio, no samples, NaN or infinity; or a checkpoint that cannot hear.
        """
        recordings: Sequence[Any] = audio if (many := is_batch(audio)) else [audio]
        wavs = (self.processor.load(recording, sampling_rate) for recording in recordings)
        transcripts = transcription.transcribe(self._generator, wavs, **generation)
        results = transcripts if timestamps else [transcript.text for transcript in transcripts]
        return results if many else results[0]

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

        Example:
            >>> from spikeaudio import SpikeAudio
            >>> model = SpikeAudio.from_pretrained("spikeaudio-tiny")
            >>> model.ask("spikeaudio/samples/instrument.wav", "which instrument is this")
            'flute'
        """
        prompt = self.processor(question, audio, sampling_rate=sampling_rate)
        output, length = self._generator(prompt, "text", **generation)
        assert output.sequences is not None
        return self.processor.decode_answer(output.sequences[0, length:].cpu()).text

    # -- speaking --------------------------------------------------------------------------------------------------

    @overload
    def speak(
        self,
        text: str,
        output: str | Path | None = None,
        seed: int | None = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        candidates: int | None = None,
        speed: float = 1.0,
        **generation: Any,
    ) -> Speech: ...

    @overload
    def speak(
        self,
        text: Sequence[str],
        output: None = None,
        seed: int | None = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        candidates: int | None = None,
        speed: float = 1.0,
        **generation: Any,
    ) -> list[Speech]: ...

    def speak(
        self,
        text: str | Sequence[str],
        output: str | Path | None = None,
        seed: int | None = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        candidates: int | None = None,
        speed: float = 1.0,
        **generation: Any,
    ) -> Speech | list[Speech]:
        """Read a text aloud.

        The model listens to what it says. Where it hears another text, it tries again, up to `candidates` times, and
        the best attempt is taken; a warning names a sentence that stays doubtful.

        Args:
            text: A text of any length, whose sentences are read one by one; or several texts.
            output: Audio file to write as well; None with several texts.
            seed: Seed of every random number: the same seed says the same again. None: another speech each time.
            voice: Recording of the voice to speak with, as path or samples; None: the checkpoint's own. Of a longer
                one, the best `decoder.max_voice_seconds` are taken (spikeaudio-tiny: 2.4).
            sampling_rate: Hz of a voice given as samples; None: 16 kHz.
            candidates: Attempts at each sentence, at most; None: as many as the checkpoint's generation config says.
            speed: Factor from 0.25 to 4 by which the speech is faster, at the same pitch.
            generation: Keywords for the language model's `generate`, such as `audio_temperature`.

        Returns:
            The speech; of several texts, one speech for each, as if it were alone.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the text is empty or holds nothing that can be said, a voice that is no recording,
                a speed out of range, or a checkpoint that cannot speak.

        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> speech = model.speak("Seven plus 5 is 12.")
        >>> speech.text, speech.score, speech.sampling_rate
        ('seven plus five is twelve', 1.0, 24000)
        """
        texts = [text] if isinstance(text, str) else list(text)
        if output is not None and not isinstance(text, str):
            raise ValueError("one output file holds one speech: give a single text, or save each speech of the list")
        check_speed(speed)
        reader = Reader(self._generator, self.decoder, self._voice(voice, sampling_rate), candidates)
        split = [sentences_of(item, self.processor) for item in texts]  # before the work: bad texts are said at once
        speeches = [reader.read(sentences, as_seed(seed), **generation) for sentences in split]
        speeches = [replace(speech, wav=change_tempo(speech.wav, speed)) for speech in speeches]
        if output is not None:
            save_audio(output, speeches[0].wav, speeches[0].sampling_rate)
        return speeches[0] if isinstance(text, str) else speeches

    def speak_stream(
        self,
        text: str,
        seed: int | None = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        candidates: int = 1,
        **generation: Any,
    ) -> Iterator[AudioEvent]:
        """`speak`, sound by sound; takes the same arguments, but for the file and the speed.

        Unless you ask for more `candidates`, the first attempt at a sentence is heard at once. With more, each
        sentence comes as a whole when the best attempt is known.

        Yields:
            AudioEvent as the sounds come about, and a PauseEvent between two sentences; joined they are the wav of
            `speak` with the same `candidates`.

        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> events = list(model.speak_stream("Snow is white. Snow is white."))
        >>> {event.sampling_rate for event in events}
        {24000}
        """
        reader = Reader(self._generator, self.decoder, self._voice(voice, sampling_rate), candidates)
        return reader.stream(sentences_of(text, self.processor), as_seed(seed), **generation)

    def detokenize(self, codes: Tensor | Sequence[int], seed: int | None = 0) -> Tensor:
        """Speech of codes: (S,) -> (N,) float32 at ``decoder.sampling_rate``.

        Args:
            codes: At least one code, 12.5 a second.
            seed: Seed of the decoder's noise; None: another one each time.

        Raises:
            ValueError: no codes, or one out of range; or a checkpoint that cannot speak.

        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> model.detokenize([5, 7, 9]).shape
        torch.Size([5760])
        """
        codes = torch.as_tensor(codes)
        if codes.ndim != 1 or codes.numel() == 0 or codes.is_floating_point():
            raise ValueError(
                f"codes must be a sequence of at least one integer, got shape {tuple(codes.shape)} of {codes.dtype}"
            )
        return self.decoder.decode(codes.long(), as_seed(seed))

    # -- conversation ----------------------------------------------------------------------------------------------

    def chat(
        self,
        audio: Audio | Messages,
        sampling_rate: int | None = None,
        speech: bool = True,
        seed: int | None = 0,
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
            seed: Seed of every random number; None: another answer each time.
            voice: recording of the voice to answer with, as in `speak`; None: the checkpoint's own.
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
        seed: int | None = 0,
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
        seed: int | None = 0,
        voice: Audio | None = None,
        sampling_rate: int | None = None,
        **generation: Any,
    ) -> Conversation:
        """A conversation of several turns, each of which costs the model its own positions alone.

        Args:
            memory: Number of past turns that the model is shown, at most; None: as many as it learned and can hold.
            speech: answer aloud as well.
            seed: Seed of every random number.
            voice: recording of the voice to answer with, as in `speak`; None: the checkpoint's own.
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

    def _speaker(self, speech: bool, seed: int | None, voice: Audio | None, sampling_rate: int | None) -> Speaker:
        if not speech:
            return Speaker(self._generator, seed=as_seed(seed))
        return Speaker(self._generator, self.decoder, as_seed(seed), self._voice(voice, sampling_rate))

    def _voice(self, voice: Audio | None, sampling_rate: int | None) -> VoicePrompt | None:
        """A recording of a voice, heard by the speech tokenizer and as mel."""
        if voice is None:
            return None
        rate = self.decoder.sampling_rate
        wav = load_recording(voice, rate, SAMPLING_RATE if sampling_rate is None else sampling_rate)
        return voice_of(wav, self.decoder, self.tokenizer)
