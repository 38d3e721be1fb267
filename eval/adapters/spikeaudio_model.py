"""Our models, dense and spiking, through the facade; a checkpoint that claims to spike is made to prove it."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from eval.adapters.adapter import Request, Response, Unavailable
from eval.adapters.weights import checkpoint_digest
from eval.task import AQA, ASR, CODEC, CONVERSATION, TTS, Job
from spikeaudio import SpikeAudio
from spikeaudio.audio.files import load_audio
from spikeaudio.checkpoint import DETOKENIZER, SPEECH_TOKENIZER, VOCODER, missing_parts
from spikeaudio.neuromorphic.energy import HOROWITZ_45NM, compute_energy
from spikeaudio.speech.events import AudioEvent, Event, PauseEvent, TextEvent
from spikeaudio.spiking.config import QUANT_METHOD
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.counting import ModelCount, counting
from spikeaudio.spiking.layers.linear import PackedSpikingLinear

_HEARING_HZ = 16000
_FIRST_LAYER = ".layers.0.self_attn.q_proj"  # every position passes it once


class SpikeAudioAdapter:
    """A checkpoint of this package.

    Args:
        model: the loaded checkpoint.
        folder: where it came from.

    Raises:
        Unavailable: it claims to spike, but has no spiking layers, or some that are not packed.
    """

    name = "spikeaudio"

    def __init__(self, model: SpikeAudio, folder: Path) -> None:
        self._model = model
        self._folder = folder
        self._layers = dict(spiking_layers(model.model))
        self._claims = _quant_method(model) == QUANT_METHOD
        self._proven = not self._claims
        unpacked = [name for name, layer in self._layers.items() if not isinstance(layer, PackedSpikingLinear)]
        if self._claims and (not self._layers or unpacked):
            raise Unavailable(
                f"the configuration of {folder} says that it spikes, but of its {len(self._layers)} spiking layers "
                f"{len(unpacked)} hold no integer weights: pack it (spikeaudio spike)"
                if self._layers
                else f"the configuration of {folder} says that it spikes, but it has no spiking layers"
            )
        hears = not missing_parts(folder, SPEECH_TOKENIZER)
        self._speaks = not missing_parts(folder, DETOKENIZER, VOCODER)
        jobs: list[Job] = [ASR, AQA, CONVERSATION] if hears else []
        jobs += [TTS] if self._speaks else []
        jobs += [CODEC] if hears and self._speaks else []
        self.jobs = frozenset(jobs)

    @classmethod
    def from_pretrained(cls, folder: str, device: str) -> "SpikeAudioAdapter":
        """Load a checkpoint folder; raises as `SpikeAudio.from_pretrained`."""
        return cls(SpikeAudio.from_pretrained(folder, device), Path(folder))

    def fingerprint(self) -> dict[str, Any]:
        """Digest of the checkpoint, and whether it spikes."""
        return {
            "adapter": self.name,
            "digest": checkpoint_digest(self._folder),
            "spiking": self._claims,
            "spiking_layers": len(self._layers),
        }

    def answer(self, requests: Sequence[Request]) -> list[Response | Exception]:
        """Transcripts in one batch, everything else one by one."""
        if not self._proven:
            self._prove(requests)
        if len(requests) > 1 and all(request.job == ASR and request.text is None for request in requests):
            return list(self._transcribe(requests))
        return [_or_error(self._answer, request) for request in requests]

    def answer_counted(self, request: Request) -> Response:
        """An answer, with the operations of the language model, weights and cache read, and modelled energy."""
        with counting(self._model.model) as count:
            answer = self._answer(request)
        self._look_for_spikes(count)
        costs = _costs(count) | {"audio_seconds": answer.measured["audio_seconds"]}
        return replace(answer, measured={"audio_seconds": costs["audio_seconds"]}, costs=costs, pieces=(), offline=None)

    def _answer(self, request: Request) -> Response:
        if request.job == ASR and request.text is None:
            return self._transcribe([request])[0]
        return _timed({ASR: self._ask, AQA: self._ask, TTS: self._speak}.get(request.job, self._reply), request)

    def _transcribe(self, requests: Sequence[Request]) -> list[Response]:
        wavs = [_heard(request) for request in requests]
        began = time.perf_counter()
        texts = self._model.transcribe(wavs, _HEARING_HZ)
        seconds = (time.perf_counter() - began) / len(requests)
        return [
            Response(text, measured={"seconds": seconds, "audio_seconds": len(wav) / _HEARING_HZ})
            for text, wav in zip(texts, wavs, strict=True)
        ]

    def _ask(self, request: Request) -> Response:
        if request.text is None:
            raise ValueError("there is nothing to ask about the recording")
        wav = _heard(request)
        text = self._model.ask(wav, request.text, _HEARING_HZ)
        return Response(text, measured={"audio_seconds": len(wav) / _HEARING_HZ})

    def _speak(self, request: Request) -> Response:
        answer = self._heard_out(self._model.speak_stream(request.text or "", seed=request.seed), request.seed)
        return replace(answer, text=None)

    def _reply(self, request: Request) -> Response:
        if request.job == CODEC:
            return self._say_again(request)
        events = self._model.stream(_messages(request), speech=self._speaks, seed=request.seed)
        answer = self._heard_out(events, request.seed)
        if answer.wav is None:
            answer.measured["audio_seconds"] = 0.0 if request.audio is None else len(_heard(request)) / _HEARING_HZ
        return answer

    def _heard_out(self, events: Iterable[Event], seed: int) -> Response:
        """An answer from its stream, with the time of every piece, and its codes made sound at once beside."""
        began = time.perf_counter()
        pieces, sounds, texts = [], [], []
        for event in events:
            if isinstance(event, AudioEvent):
                pieces.append((time.perf_counter() - began, len(event.wav)))
                sounds.append(event)
            elif isinstance(event, TextEvent) and not event.thought:
                texts.append(event.text)
        measured = {"seconds": time.perf_counter() - began}
        if not sounds:
            return Response("".join(texts), measured=measured)
        wav, rate = torch.cat([sound.wav for sound in sounds]).numpy(), sounds[0].sampling_rate
        measured |= {"audio_seconds": len(wav) / rate, "first_audio_seconds": pieces[0][0]}
        return Response(
            "".join(texts), wav, rate, measured, pieces=tuple(pieces), offline=self._at_once(sounds, seed).numpy()
        )

    def _at_once(self, sounds: Sequence[AudioEvent], seed: int) -> torch.Tensor:
        """What a stream said, decoded sentence by sentence rather than piece by piece."""
        wavs, codes = [], []
        for sound in sounds:
            if isinstance(sound, PauseEvent):
                wavs += [self._model.decoder.decode(torch.cat(codes), seed), sound.wav]
                codes, seed = [], seed + 1  # as `SpikeAudio.speak` counts
            else:
                codes.append(sound.codes)
        return torch.cat([*wavs, self._model.decoder.decode(torch.cat(codes), seed)])

    def _say_again(self, request: Request) -> Response:
        codes = self._model.tokenizer.encode([_heard(request)])[0].codes
        wav, rate = self._model.detokenize(codes, request.seed), self._model.decoder.sampling_rate
        return Response(None, wav.numpy(), rate, {"audio_seconds": len(wav) / rate})

    def _prove(self, requests: Sequence[Request]) -> None:
        """Answer the first request that reaches the language model once more than needed, and see that spikes fire."""
        for request in requests:
            with counting(self._model.model) as count:
                _or_error(self._answer, request)
            self._look_for_spikes(count)
            if self._proven:
                return

    def _look_for_spikes(self, count: ModelCount) -> None:
        if self._claims and count.total.calls:
            if not count.total.unary_events:
                raise Unavailable(f"{self._folder} has spiking layers, but not one spike fired in its first answer")
            self._proven = True


def _quant_method(model: SpikeAudio) -> str | None:
    config = getattr(model.model.config, "quantization_config", None)
    return config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)


def _heard(request: Request) -> torch.Tensor:
    if request.audio is None:
        raise ValueError("there is no recording to hear")
    return load_audio(request.audio, _HEARING_HZ)


def _messages(request: Request) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [] if request.text is None else [{"type": "text", "text": request.text}]
    content += [] if request.audio is None else [{"type": "audio", "path": request.audio}]
    return [{"role": "user", "content": content}]


def _timed(answer: Callable[[Request], Response], request: Request) -> Response:
    began = time.perf_counter()
    given = answer(request)
    given.measured.setdefault("seconds", time.perf_counter() - began)  # a stream's ends before it is made at once
    return given


def _or_error(answer: Callable[[Request], Response], request: Request) -> Response | Exception:
    try:
        return answer(request)
    except Unavailable:
        raise
    except Exception as error:
        return error


def _costs(count: ModelCount) -> dict[str, float]:
    """Sums over one answer; what the dense twin would do includes all attention, what spikes only its own share."""
    spiking = count.total + count.total_attention
    beside = sum(layer.dense_operations for layer in count.dense_layers.values())
    beside += count.attention_operations - count.total_attention.dense_operations
    layers = count.layers | count.dense_layers
    weight_bytes = sum(layer.weight_bytes for layer in layers.values())
    moved = weight_bytes + count.cache_bytes
    costs = {
        "tokens": sum(layer.tokens for name, layer in layers.items() if name.endswith(_FIRST_LAYER)),
        "elements": spiking.elements,
        "silent_elements": spiking.silent_elements,
        "unary_events": spiking.unary_events,
        "unary_operations": spiking.unary_operations,
        "bit_operations": spiking.bit_operations,
        "graded_operations": spiking.graded_operations,
        "unspiking_operations": beside,
        "dense_operations": spiking.dense_operations + beside,
        "weight_bytes": weight_bytes,
        "cache_bytes": count.cache_bytes,
    }
    energy = compute_energy(spiking, HOROWITZ_45NM, beside)
    costs |= {f"picojoules_{currency}": picojoules for currency, picojoules in energy.items()}
    return costs | {
        "picojoules_dram": moved * HOROWITZ_45NM.dram_byte,
        "picojoules_on_chip": moved * HOROWITZ_45NM.on_chip_byte,
    }
