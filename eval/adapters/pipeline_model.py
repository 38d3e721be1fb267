"""Any audio model of transformers, through its pipeline: recognizers, voices, and models that take audio and text.

asr                 automatic-speech-recognition. Any-to-any for models that must be asked to transcribe
tts                 text-to-audio
aqa, conversation   any-to-any. Answers in writing

A conversation with a model that also speaks (its `output_modalities` hold "audio") is not left to the pipeline, which
gives either words or sound. Here, ``generate(..., generation_mode="audio")`` of the same model gives both, as a pair
(Qwen-Omni) or as an object with `sequences` and `audio`. Everything else such a model answers in writing.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from transformers.models.auto import modeling_auto as auto

from eval.adapters.adapter import Request, Response
from eval.adapters.weights import checkpoint_digest, model_folder
from eval.task import AQA, ASR, CONVERSATION, TTS, Job
from spikeaudio.audio.files import load_audio

_TRANSCRIBE = "Please transcribe the spoken content into written text."  # as Kimi-Audio-Evalkit asks
_LONG_SECONDS = 30.0  # Whisper's window; longer recordings need timestamps
_RECOGNITION = "automatic-speech-recognition"
_SPOKEN_HZ = {"qwen2_5_omni": 24000, "qwen3_omni_moe": 24000}  # where no configuration says it
_TYPES: dict[str, set[str]] = {
    _RECOGNITION: {
        *auto.MODEL_FOR_CTC_MAPPING_NAMES,
        *auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    },
    "text-to-audio": {
        *auto.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES,
        *auto.MODEL_FOR_TEXT_TO_SPECTROGRAM_MAPPING_NAMES,
    },
    "any-to-any": {*auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES},
}
_DOES: dict[str, tuple[Job, ...]] = {
    "any-to-any": (ASR, AQA, CONVERSATION),
    _RECOGNITION: (ASR,),
    "text-to-audio": (TTS,),
}


class PipelineAdapter:
    """A model folder, or an id of the Hub.

    Args:
        model: folder or id.
        device: where to run.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: no audio pipeline takes a model of its type.
    """

    name = "transformers"

    def __init__(self, model: str, device: str) -> None:
        self._folder = model_folder(model)
        self._device = device
        self._config = transformers.AutoConfig.from_pretrained(self._folder)
        self._task_of: dict[Job, str] = {}
        for task, jobs in _DOES.items():  # a recognizer proper is preferred to a model that must be asked
            if task == "text-to-audio" and self._config.model_type in _SPOKEN_HZ:
                continue  # it would answer the text instead of reading it
            if self._config.model_type in _TYPES[task]:
                self._task_of |= dict.fromkeys(jobs, task)
        if not self._task_of:
            raise ValueError(f"no audio pipeline takes {model}: a model of the type {self._config.model_type}")
        self.jobs = frozenset(self._task_of)
        self._pipelines: dict[str, Any] = {}

    def fingerprint(self) -> dict[str, Any]:
        """Digest of the checkpoint, its type, and how it is quantized."""
        quantization = getattr(self._config, "quantization_config", None)
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        return {
            "adapter": self.name,
            "digest": checkpoint_digest(self._folder),
            "type": self._config.model_type,
            "quantization": method,
        }

    def answer(self, requests: Sequence[Request]) -> list[Response | Exception]:
        """Whisper in one batch, everything else one by one; greedy, and seeded where a model draws.

        Only Whisper's window is of one length: the pipeline of a CTC model would transcribe padding, too.
        """
        recognized = all(self._task_of[request.job] == _RECOGNITION for request in requests)
        whisper = recognized and self._config.model_type == "whisper"
        return list(self._recognize(requests)) if whisper else [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        task = self._task_of[request.job]
        if task == _RECOGNITION:
            return self._recognize([request])[0]
        pipe = self._pipeline(task)  # first: loading draws random numbers, too
        began = time.perf_counter()
        transformers.set_seed(request.seed)
        answer = self._speak(pipe, request) if request.job == TTS else self._reply(pipe, request)
        answer.measured["seconds"] = time.perf_counter() - began
        return answer

    def _recognize(self, requests: Sequence[Request]) -> list[Response]:
        pipe = self._pipeline(_RECOGNITION)
        rate = pipe.feature_extractor.sampling_rate
        wavs = [self._heard(request, rate) for request in requests]
        options: dict[str, Any] = {}
        if getattr(getattr(pipe.model, "generation_config", None), "lang_to_id", None):
            options["generate_kwargs"] = {"language": requests[0].language, "task": "transcribe"}
        if self._config.model_type == "whisper" and max(map(len, wavs)) > _LONG_SECONDS * rate:
            options["return_timestamps"] = True
        began = time.perf_counter()
        inputs = [{"raw": wav, "sampling_rate": rate} for wav in wavs]
        found = list(pipe(inputs, batch_size=len(inputs), **options))
        seconds = (time.perf_counter() - began) / len(requests)
        return [
            Response(item["text"], measured={"seconds": seconds, "audio_seconds": len(wav) / rate})
            for item, wav in zip(found, wavs, strict=True)
        ]

    def _speak(self, pipe: Any, request: Request) -> Response:
        said = pipe(request.text)
        wav, rate = np.asarray(said["audio"], np.float32).reshape(-1), int(said["sampling_rate"])
        return Response(None, wav, rate, {"audio_seconds": len(wav) / rate})

    def _reply(self, pipe: Any, request: Request) -> Response:
        text = _TRANSCRIBE if request.job == ASR and request.text is None else request.text
        content: list[dict[str, Any]] = []
        seconds = 0.0
        if request.audio is not None:
            rate = pipe.processor.feature_extractor.sampling_rate
            wav = self._heard(request, rate)
            content.append({"type": "audio", "audio": wav})
            seconds = len(wav) / rate
        content += [] if text is None else [{"type": "text", "text": text}]
        messages = [{"role": "user", "content": content}]
        options: dict[str, Any] = {"do_sample": False}
        if _speaks(pipe.model):
            if request.job == CONVERSATION:
                return _said(pipe, messages)
            options["generation_mode"] = "text"
        found = pipe(text=messages, return_full_text=False, generate_kwargs=options)
        return Response(found[0]["generated_text"].strip(), measured={"audio_seconds": seconds})

    def _heard(self, request: Request, rate: int) -> NDArray[np.float32]:
        if request.audio is None:
            raise ValueError("there is no recording to hear")
        wav: NDArray[np.float32] = load_audio(request.audio, rate).numpy()
        return wav

    def _pipeline(self, task: str) -> Any:
        if task not in self._pipelines:
            self._pipelines[task] = transformers.pipeline(task, model=str(self._folder), device=self._device)
        return self._pipelines[task]


def _speaks(model: Any) -> bool:
    return "audio" in (getattr(model, "output_modalities", None) or ()) and getattr(model, "has_talker", True)


def _said(pipe: Any, messages: list[dict[str, Any]]) -> Response:
    """An answer in words and aloud."""
    inputs = pipe.processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    ).to(pipe.model.device, dtype=pipe.model.dtype)
    output = pipe.model.generate(**inputs, generation_mode="audio", do_sample=False)
    ids, sound = output if isinstance(output, tuple) else (output.sequences, output.audio)
    written = ids[:, inputs["input_ids"].shape[1] :]
    (text,) = pipe.processor.post_process_multimodal_output(written, skip_special_tokens=True, generation_mode="text")
    wav = (sound[0] if isinstance(sound, list | tuple) else sound).reshape(-1).float().cpu().numpy()
    rate = _spoken_hz(pipe.model)
    return Response(text.strip(), wav if wav.size else None, rate, {"audio_seconds": len(wav) / rate})


def _spoken_hz(model: Any) -> int:
    """Hz of a model's speech.

    Raises:
        ValueError: neither its configurations nor this file say it.
    """
    if model.config.model_type in _SPOKEN_HZ:
        return _SPOKEN_HZ[model.config.model_type]
    for config in (
        model.config,
        getattr(model.config, "codec_config", None),
        getattr(model, "generation_config", None),
    ):
        for name in ("sampling_rate", "sample_rate"):
            if isinstance(rate := getattr(config, name, None), int):
                return rate
    raise ValueError(f"at which sampling rate a model of the type {model.config.model_type} speaks is not known")
