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


def register_adapter(kind: str, make: Callable[[str, str], Adapter]) -> None:
    """Add a kind of model, made of its name and the device to run on; for a file given as --include.

    Raises:
        ValueError: there is another one of this name.
    """
    if ADAPTERS.setdefault(kind, make) is not make:
        raise ValueError(f"there is an adapter {kind!r} already: give the new one another name")


ADAPTERS: dict[str, Callable[[str, str], Adapter]] = {
    "spikeaudio": _spikeaudio,
    "transformers": _transformers,
    "openai": _openai,
}
