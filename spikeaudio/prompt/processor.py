"""SpikeAudioProcessor: chat messages, texts and recordings -> the model's two streams, and its ids -> text.

    {"role": "user", "content": [{"type": "text", "text": ...}, {"type": "audio", "path" | "url" | "audio": ...}]}

becomes `input_ids` (text stream), `audio_input_ids` (codes), `audio_features` (the speech tokenizer's continuous
features, one per code) and two masks; rows of unequal length are padded on the left.
:mod:`spikeaudio.prompt.conversation` lays the prompts out, as the checkpoint's layout says: its own for spikeaudio's
models, another for Kimi-Audio's weights.

The speech tokenizer belongs to the processor: it is frozen, and a prompt cannot be made without it. It is saved in the
sub-folder ``speech_tokenizer/``. A checkpoint without one still takes text. The feature extractor that transformers'
speech recognition pipeline wants passes 16 kHz samples through: making features of them is the tokenizer's work.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, ProcessorMixin, Wav2Vec2FeatureExtractor

from spikeaudio.checkpoint import SPEECH_TOKENIZER, load_part, missing_parts
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.prompt.batch import Row, batch_prompts
from spikeaudio.prompt.conversation import DecodedAnswer, build_prompt, layout_of, read_layout, without_thoughts
from spikeaudio.prompt.layout import GenerationMode, PromptLayout, Segment
from spikeaudio.prompt.limits import Limits
from spikeaudio.prompt.messages import (
    Audio,
    Messages,
    answer_mode,
    as_list,
    is_recording,
    load_recording,
    refuse_keywords,
)
from spikeaudio.prompt.normalization import normalize_text
from spikeaudio.prompt.raw_audio import SAMPLING_RATE, raw_audio_extractor
from spikeaudio.prompt.turns import TurnReader
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer, SpeechTokens
from spikeaudio.tokenizer.whisper_features import log_mel_pieces


class SpikeAudioProcessor(ProcessorMixin):
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
        encoder_mel_bins: mel bins that the encoder inside the model reads: prompts then hold log-mel
            `input_features`; None for a model that takes the speech tokenizer's features.
        limits: what the model was not trained for: `Limits`, or a dict of its fields; None: nothing is known.
        chat_template: unused; transformers passes it.

    Raises:
        ValueError: the layout is missing or not complete.
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
        encoder_mel_bins: int | None = None,
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
        self.encoder_mel_bins = encoder_mel_bins
        self.limits = Limits.of(limits)
        self._speech = speech
        self._folder: str | None = None
        self.why_deaf = f"it has no {SPEECH_TOKENIZER}/"  # for the message of `speech_tokenizer`

    @classmethod
    def of(
        cls, config: SpikeAudioConfig, tokenizer: Any, speech: SpeechTokenizer | None, **kwargs: Any
    ) -> "SpikeAudioProcessor":
        """Assemble the processor of a model from its config and two tokenizers."""
        kwargs.setdefault("encoder_mel_bins", config.encoder_mel_bins)
        return cls(raw_audio_extractor(), tokenizer, speech, layout_of(config), **kwargs)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, processor_dict: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Positional arguments of `__init__`, from a folder; transformers calls this."""
        folder = Path(pretrained_model_name_or_path)
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
        features = ["audio_features"] if self.encoder_mel_bins is None else ["input_features", "input_features_mask"]
        return ["input_ids", "audio_input_ids", *features, "audio_feature_mask", "attention_mask"]

    def __call__(
        self,
        text: str | Audio | Sequence[str] | Sequence[Audio] | None = None,
        audio: Audio | Sequence[Audio] | None = None,
        *,
        images: None = None,
        videos: None = None,
        output_modalities: str = "text",
        sampling_rate: int | None = None,
        return_tensors: str = "pt",
        padding: bool = True,
        **kwargs: Any,
    ) -> BatchFeature:
        """One prompt per text or recording, or per pair of both (the text comes first, as an instruction).

        Args:
            text: one or several texts; arrays are taken for `audio`. None with `audio`: a request to transcribe.
            audio: one or several recordings: a path, or samples at `sampling_rate`.
            images: must be None; transformers' pipelines pass it.
            videos: must be None, too.
            output_modalities: "text" for written answers, "both" for spoken ones as well.
            sampling_rate: Hz of arrays; None: 16 kHz.
            return_tensors: "pt".
            padding: must be True: rows are padded on the left.
            kwargs: none is known.

        Returns:
            input_ids, audio_input_ids, attention_mask (B, T) long; with audio also audio_feature_mask (B, T) bool and
            audio_features (B, S, D), or input_features and input_features_mask (`encoder_mel_bins`).

        Raises:
            ValueError: nothing to do, unequal numbers of texts and recordings, a bad text or recording.
        """
        refuse_keywords(kwargs, images=images, videos=videos, return_tensors=return_tensors, padding=padding)
        if is_recording(text) and audio is None:
            text, audio = None, text  # type: ignore[assignment]
        texts, audios = as_list(text), as_list(audio)
        if texts is None:
            if audios is None:
                raise ValueError("expected text, audio or both, got neither")
            texts = [self.transcription_request] * len(audios)
        heard = [None] * len(texts) if audios is None else self._tokens(audios, sampling_rate)
        if len(texts) != len(heard):
            raise ValueError(f"expected one text per recording, got {len(texts)} texts and {len(heard)} recordings")
        mode = answer_mode(output_modalities)
        return self._batch(
            [self._row(self.text_ids(item), tokens, mode) for item, tokens in zip(texts, heard, strict=True)]
        )

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Messages | Sequence[Messages],
        *,
        add_generation_prompt: bool = True,
        output_modalities: str = "text",
        sampling_rate: int | None = None,
        tokenize: bool = True,
        return_dict: bool = True,
        return_tensors: str = "pt",
        padding: bool = True,
        continue_final_message: bool = False,
        processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prompt of one conversation or of several.

        Args:
            conversation: messages as in :mod:`spikeaudio.prompt.messages`, or a list of such lists.
            add_generation_prompt: end with the start of the assistant's turn.
            output_modalities: "text" for a written answer, "both" for a spoken one as well.
            sampling_rate: Hz of recordings given as arrays; None: 16 kHz.
            tokenize: must be True: a prompt is two streams and has no text form.
            return_dict: must be True.
            return_tensors: "pt".
            padding: must be True: rows are padded on the left.
            continue_final_message: must be False.
            processor_kwargs: `output_modalities` and `sampling_rate` again; transformers' pipelines pass them so.
            kwargs: none is known.

        Returns:
            As `__call__`.

        Raises:
            ValueError: a role, block or keyword that is not known, or a bad text or recording.
        """
        options = {"output_modalities": output_modalities, "sampling_rate": sampling_rate, **(processor_kwargs or {})}
        mode, rate = answer_mode(options.pop("output_modalities")), options.pop("sampling_rate")
        padding = options.pop("padding", padding)
        refuse_keywords(kwargs | options, return_tensors=return_tensors, padding=padding)
        if not (tokenize and return_dict):
            raise ValueError("a prompt is two streams and has no text form: tokenize and return_dict must be True")
        if continue_final_message:
            raise ValueError("continue_final_message is not supported: the last message must be the user's")
        if not conversation:
            raise ValueError("the conversation is empty: expected at least one message")
        batch: Sequence[Any] = [conversation] if isinstance(conversation[0], dict) else conversation
        rows = [self._conversation(messages, mode, rate) for messages in batch]
        if not add_generation_prompt:
            rows = [(streams.without_last(), tokens) for streams, tokens in rows]
        return self._batch(rows)

    def apply_transcription_request(
        self, audio: Audio | Sequence[Audio], prompt: str | None = None, sampling_rate: int | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Prompts that ask for what is said in recordings; `prompt` replaces the model's own request."""
        audios = as_list(audio) or []
        return self([prompt or self.transcription_request] * len(audios), audios, sampling_rate=sampling_rate, **kwargs)

    def transcribe_tokens(self, tokens: Sequence[SpeechTokens]) -> BatchFeature:
        """As `apply_transcription_request`, for recordings that are tokens already."""
        request = self.text_ids(self.transcription_request)
        return self._batch([self._row(request, item, "text") for item in tokens])

    def apply_speech_request(self, text: str | Sequence[str]) -> BatchFeature:
        """Prompts that ask to read texts aloud."""
        return self.read_aloud([self.text_ids(item) for item in ([text] if isinstance(text, str) else text)])

    def read_aloud(self, texts: Sequence[Sequence[int]]) -> BatchFeature:
        """As `apply_speech_request`, for texts that are ids already."""
        request = self.text_ids(self.speech_request)
        return self._batch([self._row([*request, *ids], None, "audio") for ids in texts])

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

    def load(self, audio: Audio, sampling_rate: int | None = None) -> Tensor:
        """A path, a URL or an array as (N,) float32 samples at 16 kHz; see `load_recording` for what it raises."""
        return load_recording(audio, SAMPLING_RATE, sampling_rate)

    @property
    def turn_reader(self) -> TurnReader:
        """Reads messages as this model wants them."""
        return TurnReader(self.text_ids, lambda audio, rate: self._tokens([audio], rate)[0])

    def hear(self, wavs: Sequence[Tensor]) -> list[SpeechTokens]:
        """Tokens of clips (N,) at 16 kHz, with log-mel pieces where the model makes its features itself."""
        heard = self.speech_tokenizer.encode(wavs)
        if self.encoder_mel_bins is None:
            return heard
        bins = self.encoder_mel_bins
        return [replace(item, pieces=log_mel_pieces(wav, bins)) for item, wav in zip(heard, wavs, strict=True)]

    def _tokens(self, audios: Iterable[Audio], sampling_rate: int | None) -> list[SpeechTokens]:
        return self.hear([self.load(audio, sampling_rate) for audio in audios])

    def _row(self, text_ids: Sequence[int], tokens: SpeechTokens | None, mode: GenerationMode) -> Row:
        """One turn of text and, if there are any, a recording's tokens."""
        segments: list[Segment] = [("text", text_ids)]
        if tokens is None:
            return build_prompt(segments, self.layout, mode), []
        return build_prompt([*segments, ("audio", tokens.codes)], self.layout, mode), [tokens]

    def _conversation(self, messages: Messages, mode: GenerationMode, sampling_rate: int | None) -> Row:
        """Streams of one conversation and the tokens of the user's recordings, in order."""
        past, segments, heard = self.turn_reader.turns(messages, sampling_rate)
        return build_prompt(segments, self.layout, mode, past), heard

    def _batch(self, rows: Sequence[Row]) -> BatchFeature:
        pad = self.tokenizer.pad_token_id
        return batch_prompts(rows, self.layout.blank_token_id if pad is None else pad)

    def decode_answer(self, ids: Tensor | Sequence[int]) -> DecodedAnswer:
        """What the generated part of a text stream says, up to its end."""
        ids = torch.as_tensor(ids)
        answer = self.layout.delay_pattern.split(ids, torch.full_like(ids, self.layout.blank_token_id))
        thought = None if answer.thoughts is None else self.text_of(answer.thoughts)
        return DecodedAnswer(self.text_of(answer.text), thought)

    def text_of(self, ids: Tensor | Sequence[int]) -> str:
        """Text of one sequence of ids, without special ones."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def decode(self, token_ids: Any, skip_special_tokens: bool = True, **kwargs: Any) -> str | list[str]:  # type: ignore[override]
        """Text of ids, without special ones by default."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = True, **kwargs: Any) -> list[str]:  # type: ignore[override]
        """Texts of several sequences of ids, without special ones by default."""
        return self.tokenizer.batch_decode(sequences, skip_special_tokens=skip_special_tokens, **kwargs)

    def post_process_multimodal_output(  # type: ignore[override]
        self,
        generated_outputs: Any,
        skip_special_tokens: bool = True,
        generation_mode: str | None = None,
        **kwargs: Any,
    ) -> list[str] | list[np.ndarray]:
        """What transformers' any-to-any pipeline returns: texts without thoughts, or waves.

        Args:
            generated_outputs: what `generate` returned, or its `sequences`.
            skip_special_tokens: leave special ids out of texts.
            generation_mode: "text" or None for texts, "audio" for waves.
            kwargs: for the text tokenizer.

        Raises:
            ValueError: waves are wanted, but the model that generated had no speech decoder.
        """
        if answer_mode(generation_mode or "text") == "text":
            sequences = getattr(generated_outputs, "sequences", generated_outputs)
            return self.batch_decode(
                [without_thoughts(row, self.layout) for row in sequences],
                skip_special_tokens=skip_special_tokens,
                **kwargs,
            )
        waves = getattr(generated_outputs, "audio", None)
        if waves is None:
            raise ValueError(
                "there is no audio in what was generated: it needs generation_mode='audio' "
                "and a model with detokenizer/ and vocoder/"
            )
        return [wave.float().cpu().numpy() for wave in waves]
