"""SpikeAudioProcessor: chat messages, texts and recordings -> the model's two streams, and its ids -> text.

    {"role": "user", "content": [{"type": "text", "text": ...}, {"type": "audio", "path" | "url" | "audio": ...}]}

becomes `input_ids` (text stream), `audio_input_ids` (codes), the inputs of the model's feature encoder and two masks.
There is one road: messages are read (:mod:`spikeaudio.prompt.turns`), laid out as the checkpoint's layout says
(:mod:`spikeaudio.prompt.conversation`), and padded to a batch (:mod:`spikeaudio.prompt.batch`). A text, a recording
and a request are messages of one turn.

The speech tokenizer belongs to the processor: it is frozen, and a prompt cannot be made without it. It is saved in the
sub-folder ``speech_tokenizer/``. A checkpoint without one still takes text. The feature extractor that transformers'
speech recognition pipeline wants passes 16 kHz samples through: making features of them is the tokenizer's work.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BatchFeature, ProcessorMixin, Wav2Vec2FeatureExtractor

from spikeaudio.checkpoint import SPEECH_TOKENIZER, find_checkpoint, load_part, missing_parts
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.feature_encoder import FeatureInputs
from spikeaudio.prompt.batch import BatchRow, HeardRecording, PaddingSide, collate
from spikeaudio.prompt.conversation import layout_of, read_layout
from spikeaudio.prompt.decoding import AnswerDecoding
from spikeaudio.prompt.keywords import answer_mode, refuse_keywords
from spikeaudio.prompt.layout import PromptLayout
from spikeaudio.prompt.limits import Limits
from spikeaudio.prompt.listening import sounding
from spikeaudio.prompt.messages import Audio, Messages, as_list, is_recording, load_recording
from spikeaudio.prompt.normalization import normalize_text, split_sentences
from spikeaudio.prompt.raw_audio import SAMPLING_RATE, raw_audio_extractor
from spikeaudio.prompt.sentence_marks import SentenceMarks
from spikeaudio.prompt.turns import TurnReader
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer


class SpikeAudioProcessor(AnswerDecoding, ProcessorMixin):
    """Prompts in, texts out.

    Args:
        feature_extractor: passes 16 kHz samples through; transformers' pipelines ask for one.
        tokenizer: the text tokenizer (fast).
        speech: the speech tokenizer; None for a checkpoint that cannot hear.
        layout: special ids and sizes of the model; a `PromptLayout`, or what its `to_dict` gave.
        transcription_request: text before a recording that is to be transcribed.
        speech_request: text before a text that is to be read aloud.
        spell_out: write texts out in a-z, ' and spaces before tokenizing (:mod:`spikeaudio.prompt.normalization`); off
            for models whose tokenizer takes any text.
        piece_seconds: longest recording, in seconds, that the model transcribes well at once; follows from the clips
            it was trained on.
        longest_pause: longest quiet, in seconds, that the model takes around and inside of what sounds; longer quiet
            parts are left out. None: recordings are heard as they are.
        longest_seconds: longest recording of a message, in seconds, that the model answers well; None: as much as
            its context holds.
        score_threshold: score below which a transcript is mostly wrong, as measured; None: nobody measured it.
        feature_encoder: makes the inputs of the model's feature encoder; a `FeatureInputs`, or what its `to_dict`
            gave. None: the model takes the speech tokenizer's features.
        limits: limits of the model's training: `Limits`, or a dict of its fields; None: nothing is known.
        chat_template: unused; transformers passes it.

    Raises:
        ValueError: the layout is missing or not complete.

    Example:
        >>> from spikeaudio import SpikeAudioProcessor
        >>> processor = SpikeAudioProcessor.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> prompt = processor("what is said", "spikeaudio/samples/question.wav")
        >>> prompt["input_ids"].shape == prompt["audio_input_ids"].shape
        True
    """

    def __init__(
        self,
        feature_extractor: Wav2Vec2FeatureExtractor,
        tokenizer: Any,
        speech: SpeechTokenizer | None = None,
        layout: PromptLayout | dict[str, Any] | None = None,
        transcription_request: str = "please transcribe the following audio",
        speech_request: str = "say",
        spell_out: bool = True,
        piece_seconds: float = 15.0,
        longest_pause: float | None = None,
        longest_seconds: float | None = None,
        score_threshold: float | None = None,
        feature_encoder: FeatureInputs | dict[str, Any] | None = None,
        limits: Limits | dict[str, Any] | None = None,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        if layout is None:
            raise ValueError("the processor needs the model's layout: spikeaudio.prompt.conversation.layout_of(config)")
        self.layout = layout if isinstance(layout, PromptLayout) else read_layout(layout)
        self.transcription_request = transcription_request
        self.speech_request = speech_request
        self.spell_out = spell_out
        self.piece_seconds = piece_seconds
        self.longest_pause = longest_pause
        self.longest_seconds = longest_seconds
        self.score_threshold = score_threshold
        if not isinstance(feature_encoder, FeatureInputs):
            feature_encoder = FeatureInputs.from_dict(feature_encoder or {})
        self.feature_encoder = feature_encoder
        self.limits = Limits.of(limits)
        self._speech = speech
        self._folder: str | None = None
        self.why_deaf = f"it has no {SPEECH_TOKENIZER}/"  # for the message of `speech_tokenizer`

    @classmethod
    def of(
        cls, config: SpikeAudioConfig, tokenizer: Any, speech: SpeechTokenizer | None, **kwargs: Any
    ) -> "SpikeAudioProcessor":
        """Assemble the processor of a model from its config and two tokenizers."""
        kwargs.setdefault("feature_encoder", FeatureInputs.of(config.audio_encoder_config))
        return cls(raw_audio_extractor(), tokenizer, speech, layout_of(config), **kwargs)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, processor_dict: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Positional arguments of `__init__`, from a folder; transformers calls this."""
        folder = find_checkpoint(pretrained_model_name_or_path)
        stored = processor_dict or {}
        layout = stored.get("layout") or layout_of(SpikeAudioConfig.from_pretrained(folder))
        speech = None
        if not missing_parts(folder, SPEECH_TOKENIZER):
            speech = load_part(SpeechTokenizer.from_pretrained, folder / SPEECH_TOKENIZER)
        tokenizer = cls._load_tokenizer_from_pretrained("tokenizer", folder, **kwargs)
        return [raw_audio_extractor(stored.get("feature_extractor")), tokenizer, speech, layout]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "SpikeAudioProcessor":
        """Load the processor of a checkpoint folder; see transformers for the keywords."""
        processor = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        processor._folder = str(pretrained_model_name_or_path)
        return processor

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Write the processor's files, and the speech tokenizer into its sub-folder."""
        files = super().save_pretrained(str(save_directory), **kwargs)
        if self._speech is not None:
            self._speech.save_pretrained(Path(save_directory) / SPEECH_TOKENIZER)
        return files

    def to_dict(self) -> dict[str, Any]:
        """What ``processor_config.json`` holds."""
        bare = copy.copy(self)
        bare._speech = None  # weights; they have a folder of their own
        bare.layout = self.layout.to_dict()  # type: ignore[assignment]
        bare.feature_encoder = self.feature_encoder.to_dict()  # type: ignore[assignment]
        bare.limits = asdict(self.limits)  # type: ignore[assignment]
        return ProcessorMixin.to_dict(bare)

    @property
    def speech_tokenizer(self) -> SpeechTokenizer:
        """The speech tokenizer.

        Raises:
            ValueError: the checkpoint has none.
        """
        if self._speech is None:
            where = f"the checkpoint {self._folder}" if self._folder else "this processor"
            raise ValueError(f"{where} cannot hear: {self.why_deaf}")
        return self._speech

    @property
    def hears(self) -> bool:
        """Whether there is a speech tokenizer."""
        return self._speech is not None

    @property
    def model_input_names(self) -> list[str]:
        """Names of what `__call__` returns."""
        return ["input_ids", "audio_input_ids", *self.feature_encoder.names, "audio_feature_mask", "attention_mask"]

    def __call__(
        self,
        text: str | Audio | Sequence[str] | Sequence[Audio] | None = None,
        audio: Audio | Sequence[Audio] | None = None,
        *,
        output_modalities: str = "text",
        sampling_rate: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """One prompt per text or recording, or per pair of both (the text comes first, as an instruction).

        Args:
            text: one or several texts; arrays are taken for `audio`. None with `audio`: a request to transcribe.
            audio: one or several recordings: a path, or samples at `sampling_rate`.
            output_modalities: "text" for written answers, "both" for spoken ones as well.
            sampling_rate: Hz of arrays; None: 16 kHz.
            kwargs: those of transformers that have one value here; see `refuse_keywords`.

        Returns:
            input_ids, audio_input_ids, attention_mask (B, T) long; with audio also audio_feature_mask (B, T) bool and
            the inputs of the model's feature encoder, such as audio_features (B, S, D).

        Raises:
            ValueError: nothing to do, unequal numbers of texts and recordings, a bad text or recording.
        """
        refuse_keywords(kwargs)
        if is_recording(text) and audio is None:
            text, audio = None, text  # type: ignore[assignment]
        texts, audios = as_list(text), as_list(audio)
        if texts is None:
            if audios is None:
                raise ValueError("expected text, audio or both, got neither")
            texts = [self.transcription_request] * len(audios)
        if audios is None:
            asked: list[Messages] = [[{"role": "user", "content": [self._text_block(item)]}] for item in texts]
        elif len(texts) == len(audios):
            asked = [_user(text=item, audio=heard) for item, heard in zip(texts, audios, strict=True)]
        else:
            raise ValueError(f"expected one text per recording, got {len(texts)} texts and {len(audios)} recordings")
        return self.apply_chat_template(asked, output_modalities=output_modalities, sampling_rate=sampling_rate)

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Messages | Sequence[Messages],
        *,
        add_generation_prompt: bool = True,
        output_modalities: str = "text",
        output_labels: bool = False,
        sampling_rate: int | None = None,
        padding_side: PaddingSide | None = None,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prompt of one conversation or of several; with `output_labels`, a batch to train on.

        Args:
            conversation: messages as in :mod:`spikeaudio.prompt.messages`, or a list of such lists.
            add_generation_prompt: end with the start of the assistant's turn; not where the last message is one.
            output_modalities: "text" for a written answer, "both" for a spoken one as well; where the last message
                is the assistant's, that message says it.
            output_labels: the last message, the assistant's, is to be learned: adds `labels` and `audio_labels`,
                which are -100 everywhere else. `add_generation_prompt` is then taken for False.
            sampling_rate: Hz of recordings given as arrays; None: 16 kHz.
            padding_side: "left" or "right"; None: "right" with labels, "left" without.
            processor_kwargs: keywords once more; transformers' pipelines pass them so, and they win.
            kwargs: those of transformers that have one value here; see `refuse_keywords`.

        Returns:
            As `__call__`; with labels also `labels` and `audio_labels` (B, T) long.

        Raises:
            ValueError: a role, block or keyword that is not known, a bad text or recording, or a last message of the
                other role than the keywords need.

        >>> processor = SpikeAudioProcessor.from_pretrained("checkpoints/spikeaudio-tiny")
        >>> question = {"role": "user", "content": "what is two plus two"}
        >>> sorted(processor.apply_chat_template([question]))
        ['attention_mask', 'audio_input_ids', 'input_ids']
        >>> answer = {"role": "assistant", "content": "four"}
        >>> sorted(processor.apply_chat_template([question, answer], output_labels=True))
        ['attention_mask', 'audio_input_ids', 'audio_labels', 'input_ids', 'labels']
        """
        options: dict[str, Any] = {
            "output_modalities": output_modalities,
            "output_labels": output_labels,
            "sampling_rate": sampling_rate,
            "padding_side": padding_side,
            **kwargs,
            **(processor_kwargs or {}),
        }
        mode, labels = answer_mode(options.pop("output_modalities")), options.pop("output_labels")
        rate, side = options.pop("sampling_rate"), options.pop("padding_side")
        refuse_keywords(options)
        if not conversation:
            raise ValueError("the conversation is empty: expected at least one message")
        batch: Sequence[Any] = [conversation] if isinstance(conversation[0], dict) else conversation
        if labels:
            reader = self.turn_reader
            return self.collate([reader.example(messages, rate) for messages in batch], side or "right")
        reader = self._reader(self._listen)
        rows = [reader.prompt(messages, mode, rate, add_generation_prompt) for messages in batch]
        return self.collate(rows, side or "left")

    def collate(self, rows: Sequence[BatchRow], padding_side: PaddingSide = "right") -> BatchFeature:
        """One batch of rows, see :func:`spikeaudio.prompt.batch.collate`; a `data_collator` of a Trainer."""
        pad = self.tokenizer.pad_token_id
        batch = BatchFeature(collate(rows, self.layout.blank_token_id if pad is None else pad, padding_side))
        return self.sentence_marks.hide(batch)

    def apply_transcription_request(
        self,
        audio: Audio | HeardRecording | Sequence[Audio] | Sequence[HeardRecording],
        prompt: str | None = None,
        sampling_rate: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prompts that ask for what is said in recordings; `prompt` replaces the model's own request."""
        audios = as_list(audio) or []
        return self([prompt or self.transcription_request] * len(audios), audios, sampling_rate=sampling_rate, **kwargs)

    def apply_speech_request(self, text: str | Sequence[str] | Sequence[Sequence[int]]) -> BatchFeature:
        """Prompts that ask to read texts aloud; a text may also be given as its ids."""
        blocks = [
            {"type": "text", "text" if isinstance(item, str) else "ids": item}
            for item in ([text] if isinstance(text, str) else text)
        ]
        request = {"type": "text", "text": self.speech_request}
        asked = [[{"role": "user", "content": [request, block]}] for block in blocks]
        return self.apply_chat_template(asked, output_modalities="both")

    def text_ids(self, text: str) -> list[int]:
        """Ids of a text, spelled out first if the model wants that.

        Raises:
            ValueError: the text is empty or holds nothing that can be said.
        """
        if self.spell_out:
            text = normalize_text(text)
        elif not isinstance(text, str) or not text.strip():
            raise ValueError("the text is empty: expected at least one word")
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text_block(self, text: str) -> dict[str, Any]:
        """A text as a content block, with marks between its sentences where the model reads them one by one."""
        sentences = split_sentences(text) if self.spell_out else [text]
        if len(sentences) < 2 or self.sentence_marks.mark_token_id is None:
            return {"type": "text", "text": text}
        return {"type": "text", "ids": self.sentence_marks.join([self.text_ids(sentence) for sentence in sentences])}

    @property
    def sentence_marks(self) -> SentenceMarks:
        """How sentences are marked: with the pad, where it is no other id as well."""
        pad, blank = self.tokenizer.pad_token_id, self.layout.blank_token_id
        return SentenceMarks(None if pad == blank else pad, blank)

    def load(self, audio: Audio, sampling_rate: int | None = None) -> Tensor:
        """A path, a URL or an array as (N,) float32 samples at 16 kHz; see `load_recording` for what it raises."""
        return load_recording(audio, SAMPLING_RATE, sampling_rate)

    @property
    def turn_reader(self) -> TurnReader:
        """Reads messages as this model wants them, each recording as it is: for training."""
        return self._reader(lambda audio, rate, speech: self.hear([self.load(audio, rate)])[0])

    def _reader(self, listen: Callable[[Any, int | None, bool], HeardRecording]) -> TurnReader:
        def hear(audio: Any, rate: int | None, speech: bool) -> HeardRecording:
            return audio if isinstance(audio, HeardRecording) else listen(audio, rate, speech)

        return TurnReader(self.layout, self.text_ids, hear, self.transcription_request)

    def _listen(self, audio: Audio, sampling_rate: int | None, speech: bool) -> HeardRecording:
        """What sounds in a recording; see :func:`~spikeaudio.prompt.listening.sounding`."""
        wav = self.load(audio, sampling_rate)
        return self.hear([sounding(wav, speech, self.longest_pause, self.longest_seconds)])[0]

    def hear(self, wavs: Sequence[Tensor]) -> list[HeardRecording]:
        """Codes of clips (N,) at 16 kHz, and the inputs of the model's feature encoder."""
        heard = self.speech_tokenizer.encode(wavs)
        return [
            HeardRecording(item.codes, self.feature_encoder(wav, item.features))
            for item, wav in zip(heard, wavs, strict=True)
        ]


def _user(text: str, audio: Audio | HeardRecording | None = None) -> Messages:
    """A conversation of one message: a text and, if there is any, a recording behind it."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    return [{"role": "user", "content": content if audio is None else [*content, {"type": "audio", "audio": audio}]}]
