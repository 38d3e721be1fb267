"""Our models under transformers' Auto classes, without importing transformers.

`AutoModelForMultimodalLM.from_pretrained(folder)` can find our class only if somebody registered it. Registering needs
both transformers and our models, which take seconds to import, while `import spikeaudio` takes milliseconds; so
`install` only watches imports, and `_register_ready` does the work at the first moment when it is

- needed: one of transformers' registries has been imported, before `import spikeaudio` or after it;
- possible: no import of ours or of transformers is under way. Model files import the registries themselves (by way of
  `modeling_layers`), and at that moment neither our classes nor those that they build on exist yet.

Three places of transformers (the pipeline for speech recognition, the any-to-any pipeline, `transformers serve`) read
static dictionaries of names, which `register` does not touch; the names are added there too.

The quantizer that makes a checkpoint spike is registered in the same way.

Source: transformers 5.23 `models/auto`, tried there; `tests/test_public_api.py` tries it in every order of imports.
"""

import importlib
import importlib.abc
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

_AUTO = "transformers.models.auto"
_WATCHED = ("spikeaudio", "transformers")


class _Model(NamedTuple):
    """One of our models and the Auto class that finds it by the type of a configuration; both as "module:name"."""

    auto: str
    model: str
    config: str


_SPIKE_AUDIO = "spikeaudio.lm.configuration:SpikeAudioConfig"
_WHISPER_VQ = "spikeaudio.tokenizer.configuration:WhisperVQConfig"
_DETOKENIZER = "spikeaudio.detokenizer.configuration:DetokenizerConfig"
_VOCOS = "spikeaudio.vocoder.configuration:VocosConfig"
_BIGVGAN = "spikeaudio.vocoder.configuration:BigVGANConfig"
_KIMI_AUDIO = "spikeaudio.loading.kimi.configuration:KimiAudioConfig"  # of a download, which loads into our classes

_CONFIGS = (_SPIKE_AUDIO, _KIMI_AUDIO, _WHISPER_VQ, _DETOKENIZER, _VOCOS, _BIGVGAN)
_MODELS = (
    _Model("AutoModel", "spikeaudio.lm.modeling:SpikeAudioModel", _SPIKE_AUDIO),
    _Model("AutoModelForCausalLM", "spikeaudio.lm.modeling:SpikeAudioForConditionalGeneration", _SPIKE_AUDIO),
    _Model("AutoModelForMultimodalLM", "spikeaudio.loading.auto:SpikeAudioForSpeechGeneration", _SPIKE_AUDIO),
    _Model("AutoModelForSpeechSeq2Seq", "spikeaudio.loading.auto:SpikeAudioForSpeechSeq2Seq", _SPIKE_AUDIO),
    _Model("AutoModelForTextToWaveform", "spikeaudio.loading.auto:SpikeAudioForTextToWaveform", _SPIKE_AUDIO),
    _Model("AutoModel", "spikeaudio.loading.kimi.auto:KimiAudioModel", _KIMI_AUDIO),
    _Model("AutoModelForCausalLM", "spikeaudio.loading.kimi.auto:KimiAudioForConditionalGeneration", _KIMI_AUDIO),
    _Model("AutoModelForMultimodalLM", "spikeaudio.loading.kimi.auto:KimiAudioForSpeechGeneration", _KIMI_AUDIO),
    _Model("AutoModelForSpeechSeq2Seq", "spikeaudio.loading.kimi.auto:KimiAudioForSpeechSeq2Seq", _KIMI_AUDIO),
    _Model("AutoModelForTextToWaveform", "spikeaudio.loading.kimi.auto:KimiAudioForTextToWaveform", _KIMI_AUDIO),
    _Model("AutoModel", "spikeaudio.tokenizer.whisper_vq:WhisperVQEncoder", _WHISPER_VQ),
    _Model("AutoModel", "spikeaudio.detokenizer.modeling:FlowMatchingDetokenizer", _DETOKENIZER),
    _Model("AutoModel", "spikeaudio.vocoder.vocos:VocosVocoder", _VOCOS),
    _Model("AutoModel", "spikeaudio.vocoder.bigvgan:BigVGAN", _BIGVGAN),
)
_PROCESSORS = {
    _SPIKE_AUDIO: "spikeaudio.prompt.processor:SpikeAudioProcessor",
    _KIMI_AUDIO: "spikeaudio.loading.kimi.auto:KimiAudioProcessor",
}
_STATIC_NAMES = {
    "AutoModelForMultimodalLM": "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "AutoModelForSpeechSeq2Seq": "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "AutoModelForTextToWaveform": "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES",
}


def install() -> None:
    """Have our classes registered as soon as transformers' registries are imported (or now, if they are)."""
    sys.meta_path.insert(0, _ImportWatch())
    _register_ready()


class _ImportWatch(importlib.abc.MetaPathFinder):
    """Calls `_register_ready` after each outermost import of ours or of transformers; finds nothing itself."""

    def __init__(self) -> None:
        self._thread = threading.local()  # .depth: watched imports under way; other threads' are locked by importlib

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of the other finders, whose loader tells when it has run the module's body."""
        if not _pending or name.partition(".")[0] not in _WATCHED:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                depth = getattr(self._thread, "depth", 0)
                self._thread.depth = depth + 1
                try:
                    run(module)
                finally:
                    self._thread.depth = depth
                if depth == 0:
                    _register_ready()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _register_ready() -> None:
    """Fill the registries that are imported."""
    for registry in list(_pending):
        # Registering imports our models, and the watch on these comes back here: whoever takes an entry does it.
        if registry in sys.modules and (register := _pending.pop(registry, None)) is not None:
            register(importlib.import_module(registry))


def _register_configs(registry: ModuleType) -> None:
    for path in _CONFIGS:
        config = _load(path)
        registry.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models(registry: ModuleType) -> None:
    for entry in _MODELS:
        model, config = _load(entry.model), _load(entry.config)
        getattr(registry, entry.auto).register(config, model, exist_ok=True)
        if entry.auto in _STATIC_NAMES:
            getattr(registry, _STATIC_NAMES[entry.auto])[config.model_type] = model.__name__


def _register_processor(registry: ModuleType) -> None:
    for config, processor in _PROCESSORS.items():
        registry.AutoProcessor.register(_load(config), _load(processor), exist_ok=True)


def _register_quantizer(registry: ModuleType) -> None:
    importlib.import_module("spikeaudio.spiking.quantizer")  # decorators of its classes do it


_pending = {
    f"{_AUTO}.configuration_auto": _register_configs,
    f"{_AUTO}.modeling_auto": _register_models,
    f"{_AUTO}.processing_auto": _register_processor,
    "transformers.quantizers.auto": _register_quantizer,
}


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
