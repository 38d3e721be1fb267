"""Models to evaluate, by kind: our own, anything with a transformers pipeline, any OpenAI-compatible server."""

from collections.abc import Callable

from eval.adapters.adapter import Adapter


def _spikeaudio(model: str, device: str) -> Adapter:
    from eval.adapters.spikeaudio_model import SpikeAudioAdapter

    return SpikeAudioAdapter.from_pretrained(model, device)


def _transformers(model: str, device: str) -> Adapter:
    from eval.adapters.pipeline_model import PipelineAdapter

    return PipelineAdapter(model, device)


def _openai(model: str, device: str) -> Adapter:
    from eval.adapters.openai_server import OpenAIAdapter

    return OpenAIAdapter.from_environment(model)


ADAPTERS: dict[str, Callable[[str, str], Adapter]] = {
    "spikeaudio": _spikeaudio,
    "transformers": _transformers,
    "openai": _openai,
}
