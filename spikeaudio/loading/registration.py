"""Our models under transformers' Auto classes, by name: nothing of ours is imported before it is used.

`AutoModelForMultimodalLM.from_pretrained(folder)` finds a class in transformers' tables of names: type of a model ->
name of a class. transformers imports the class when it is asked for, and so it does with ours:

- `_fill_*` write our names into the four tables (configurations, models, processors, quantizers). That imports nothing.
- The tables know one module per type, ``transformers.models.<module>``. `_Ours` is such a module: it finds each of our
  classes in the file where it lives. It is in ``sys.modules`` only, nothing is written into transformers' folder.
- A quantizer's table holds classes, not names. `_Later` stands for such a class until it is called.

A table can be filled only once it exists. `import spikeaudio` takes milliseconds and transformers takes a second, so
we cannot import it just to write into it, and transformers 5 asks no entry points of other packages. Hence the one
hook here: `_TableWatch`, a finder of the standard import system. It answers for the four modules that hold a table,
has the table filled after its module has run, and leaves ``sys.meta_path`` with the last of them. Every other import
passes it by. A table that exists already is filled at once. A fifth module is peft's: there, spiking layers close
themselves to merging (:mod:`spikeaudio.spiking.layers.adapters`). Where peft is never imported, the finder stays.

Source: transformers 5.23 `models/auto`; `tests/loading/test_registration.py` tries every order of imports.
"""

import importlib
import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto"
_MODULE = "spikeaudio"  # transformers.models.spikeaudio, see `_Ours`

_CONFIGS = {  # type of a model -> its configuration
    "spikeaudio": "SpikeAudioConfig",
    "moonshot_kimia": "KimiAudioConfig",  # a download of Kimi-Audio, which loads into our classes
    "spikeaudio_whisper_vq": "WhisperVQConfig",
    "spikeaudio_detokenizer": "DetokenizerConfig",
    "spikeaudio_vocos": "VocosConfig",
    "spikeaudio_bigvgan": "BigVGANConfig",
}
_MODELS = {  # transformers' table -> type of a model -> its class
    "MODEL_MAPPING_NAMES": {
        "spikeaudio": "SpikeAudioModel",
        "moonshot_kimia": "KimiAudioModel",
        "spikeaudio_whisper_vq": "WhisperVQEncoder",
        "spikeaudio_detokenizer": "FlowMatchingDetokenizer",
        "spikeaudio_vocos": "VocosVocoder",
        "spikeaudio_bigvgan": "BigVGAN",
    },
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": {
        "spikeaudio": "SpikeAudioForConditionalGeneration",
        "moonshot_kimia": "KimiAudioForConditionalGeneration",
    },
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": {
        "spikeaudio": "SpikeAudioForSpeechGeneration",
        "moonshot_kimia": "KimiAudioForSpeechGeneration",
    },
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES": {
        "spikeaudio": "SpikeAudioForSpeechSeq2Seq",
        "moonshot_kimia": "KimiAudioForSpeechSeq2Seq",
    },
    "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES": {
        "spikeaudio": "SpikeAudioForTextToWaveform",
        "moonshot_kimia": "KimiAudioForTextToWaveform",
    },
}
_PROCESSORS = {"spikeaudio": "SpikeAudioProcessor", "moonshot_kimia": "KimiAudioProcessor"}
_FILES = {  # where our classes live
    "spikeaudio.lm.configuration": ("SpikeAudioConfig",),
    "spikeaudio.lm.modeling": ("SpikeAudioModel", "SpikeAudioForConditionalGeneration"),
    "spikeaudio.loading.auto": (
        "SpikeAudioForSpeechGeneration",
        "SpikeAudioForSpeechSeq2Seq",
        "SpikeAudioForTextToWaveform",
    ),
    "spikeaudio.loading.kimi.auto": (
        "KimiAudioModel",
        "KimiAudioForConditionalGeneration",
        "KimiAudioForSpeechGeneration",
        "KimiAudioForSpeechSeq2Seq",
        "KimiAudioForTextToWaveform",
        "KimiAudioProcessor",
    ),
    "spikeaudio.loading.kimi.configuration": ("KimiAudioConfig",),
    "spikeaudio.prompt.processor": ("SpikeAudioProcessor",),
    "spikeaudio.tokenizer.configuration": ("WhisperVQConfig",),
    "spikeaudio.tokenizer.whisper_vq": ("WhisperVQEncoder",),
    "spikeaudio.detokenizer.configuration": ("DetokenizerConfig",),
    "spikeaudio.detokenizer.modeling": ("FlowMatchingDetokenizer",),
    "spikeaudio.vocoder.configuration": ("VocosConfig", "BigVGANConfig"),
    "spikeaudio.vocoder.vocos": ("VocosVocoder",),
    "spikeaudio.vocoder.bigvgan": ("BigVGAN",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}


def install() -> None:
    """Have our names in transformers' tables: in those that exist now, in the others as soon as they are imported."""
    sys.modules.setdefault(f"transformers.models.{_MODULE}", _Ours(f"transformers.models.{_MODULE}"))
    missing = {}
    for table, fill in _TABLES.items():
        if table in sys.modules:
            fill(importlib.import_module(table))  # not from sys.modules: another thread may be half-way through it
        else:
            missing[table] = fill
    if missing:
        sys.meta_path.insert(0, _TableWatch(missing))


class _Ours(ModuleType):
    """The module in which transformers looks for our classes; each is imported when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name not in _FILE_OF:
            raise AttributeError(f"spikeaudio has no class {name} for transformers")
        return getattr(importlib.import_module(_FILE_OF[name]), name)


class _Later:
    """Stands for a class in a table; the class is imported when it is called or one of its attributes is read."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._class()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._class(), name)

    def _class(self) -> Any:
        return getattr(importlib.import_module(self._module), self._name)


class _TableWatch(importlib.abc.MetaPathFinder):
    """Has a table filled when its module has run.

    Args:
        missing: name of a module that holds a table -> what fills it.
    """

    def __init__(self, missing: "dict[str, Callable[[ModuleType], None]]") -> None:
        self._missing = missing

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec that the other finders give, whose loader fills the table; None for any other module."""
        if name not in self._missing:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            if (fill := self._missing.pop(name, None)) is not None:
                fill(module)
            if not self._missing and self in sys.meta_path:
                sys.meta_path.remove(self)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _fill_configs(registry: ModuleType) -> None:
    registry.CONFIG_MAPPING_NAMES.update(_CONFIGS)
    registry.SPECIAL_MODEL_TYPE_TO_MODULE_NAME.update(dict.fromkeys(_CONFIGS, _MODULE))


def _fill_models(registry: ModuleType) -> None:
    for table, names in _MODELS.items():
        getattr(registry, table).update(names)
    _point_back(mapping for mapping in vars(registry).values() if type(mapping).__name__ == "_LazyAutoMapping")


def _fill_processors(registry: ModuleType) -> None:
    registry.PROCESSOR_MAPPING_NAMES.update(_PROCESSORS)
    _point_back([registry.PROCESSOR_MAPPING])


def _point_back(mappings: Any) -> None:
    """Let mappings that were made before ours existed find the type of a model by the name of its configuration."""
    for mapping in mappings:
        mapping._reverse_config_mapping.update({config: kind for kind, config in _CONFIGS.items()})


def _fill_quantizers(registry: ModuleType) -> None:
    registry.AUTO_QUANTIZATION_CONFIG_MAPPING["gif"] = _Later("spikeaudio.spiking.config", "GIFConfig")
    registry.AUTO_QUANTIZER_MAPPING["gif"] = _Later("spikeaudio.spiking.quantizer", "GIFQuantizer")


def _close_merging(tuners: ModuleType) -> None:
    importlib.import_module("spikeaudio.spiking.layers.adapters").refuse_merging(tuners)


_TABLES: "dict[str, Callable[[ModuleType], None]]" = {
    f"{_AUTO}.configuration_auto": _fill_configs,
    f"{_AUTO}.modeling_auto": _fill_models,
    f"{_AUTO}.processing_auto": _fill_processors,
    "transformers.quantizers.auto": _fill_quantizers,
    "peft.tuners.tuners_utils": _close_merging,
}
