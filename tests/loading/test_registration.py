"""Public names, what importing costs, and registration with transformers in every order of imports."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import spikeaudio
from tests.fixtures.tiny_qwen2 import tiny_qwen2

ROOT = Path(__file__).resolve().parents[2]

# Whatever came first, every registry must know our classes by the end.
CHECK = """
import spikeaudio
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM
from transformers import AutoModelForSpeechSeq2Seq, AutoModelForTextToWaveform
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from spikeaudio import *

for config in (SpikeAudioConfig, WhisperVQConfig, DetokenizerConfig, VocosConfig, BigVGANConfig):
    assert CONFIG_MAPPING[config.model_type] is config, config
found = {auto.__name__: auto._model_mapping[SpikeAudioConfig].__name__ for auto in (
    AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModelForSpeechSeq2Seq, AutoModelForTextToWaveform)}
assert found == {
    "AutoModel": "SpikeAudioModel",
    "AutoModelForCausalLM": "SpikeAudioForConditionalGeneration",
    "AutoModelForMultimodalLM": "SpikeAudioForSpeechGeneration",
    "AutoModelForSpeechSeq2Seq": "SpikeAudioForSpeechSeq2Seq",
    "AutoModelForTextToWaveform": "SpikeAudioForTextToWaveform",
}, found
assert AutoModel._model_mapping[WhisperVQConfig] is WhisperVQEncoder
assert AutoModel._model_mapping[DetokenizerConfig] is FlowMatchingDetokenizer
assert AutoModel._model_mapping[VocosConfig] is VocosVocoder
assert AutoModel._model_mapping[BigVGANConfig] is BigVGAN
assert PROCESSOR_MAPPING[SpikeAudioConfig] is SpikeAudioProcessor
names = modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES
assert names["spikeaudio"] == found["AutoModelForSpeechSeq2Seq"], names
assert modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES["spikeaudio"] == found["AutoModelForMultimodalLM"]
assert modeling_auto.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES["spikeaudio"] == found["AutoModelForTextToWaveform"]
"""


def python(code: str) -> str:
    """Standard output of ``code`` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", sorted(set(spikeaudio.__all__) - {"__version__"}))
def test_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(spikeaudio, name)
    assert value.__name__ == name
    assert value.__doc__


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"'Spikeaudio'.*SpikeAudioConfig"):
        _ = spikeaudio.Spikeaudio


def test_type_checkers_and_python_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "spikeaudio" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert seen == spikeaudio._MODULES


def test_import_is_light_and_sets_nothing() -> None:
    code = """
import sys, random
state = random.getstate()
import spikeaudio
assert random.getstate() == state
print(*[name for name in ("torch", "numpy", "transformers", "typer", "soundfile") if name in sys.modules])
"""
    assert python(code) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "import spikeaudio",
        "from transformers import AutoModel, AutoProcessor",
        "import spikeaudio; from transformers import Qwen2Model",  # imports the registries half-way through itself
        "import spikeaudio.lm.streams",  # so do our own modules
        "import transformers; import spikeaudio.pipeline",
    ],
)
def test_auto_classes_know_our_models(first: str) -> None:
    python(first + CHECK)


# What a program pays for that imports an Auto class; the last line that it prints is the number of modules.
AUTO = "import sys; from transformers import AutoModelForMultimodalLM; print(len(sys.modules))"


@pytest.mark.slow
def test_auto_classes_cost_what_they_cost_without_us() -> None:
    alone = int(python(AUTO))
    assert alone > 500
    for order in ("import spikeaudio; " + AUTO, AUTO.replace("; print", "; import spikeaudio; print")):
        assert int(python(order)) <= 1.05 * alone


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import spikeaudio, transformers", "import transformers.models.auto, spikeaudio"])
def test_folders_load_by_auto_classes_and_pipelines(order: str, tmp_path: Path, tiny_checkpoint: Path) -> None:
    tiny_qwen2().save_pretrained(tmp_path)
    python(
        f"""
{order}
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor, pipeline
folder = {str(tiny_checkpoint)!r}
assert AutoConfig.from_pretrained(folder).model_type == "spikeaudio"
assert type(AutoModelForMultimodalLM.from_pretrained(folder)) is spikeaudio.loading.auto.SpikeAudioForSpeechGeneration
assert type(AutoModel.from_pretrained(folder + "/vocoder")) is spikeaudio.VocosVocoder
assert type(AutoModel.from_pretrained(folder + "/speech_tokenizer")) is spikeaudio.WhisperVQEncoder
assert type(AutoProcessor.from_pretrained(folder)) is spikeaudio.SpikeAudioProcessor
for task in ("automatic-speech-recognition", "text-to-audio", "any-to-any"):
    assert pipeline(task, model=folder).model.config.model_type == "spikeaudio"

llm = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r}, quantization_config=spikeaudio.GIFConfig())
llm.save_pretrained({str(tmp_path)!r} + "/spiking")
"""
    )
    python(
        f"""
{order}
from transformers import AutoModelForCausalLM
llm = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r} + "/spiking")
assert type(llm.model.layers[0].mlp.up_proj).__name__ == "SpikingLinear"
"""
    )


@pytest.mark.slow
def test_the_hook_leaves_when_its_work_is_done() -> None:
    code = """
import sys
import spikeaudio
ours = [finder for finder in sys.meta_path if type(finder).__module__.startswith("spikeaudio.")]
assert len(ours) == 1
import transformers.models.auto.processing_auto, transformers.quantizers.auto
assert ours[0] in sys.meta_path
import peft
assert ours[0] not in sys.meta_path
"""
    python(code)


@pytest.mark.slow
def test_every_module_imports_alone_and_leaves_devices_and_threads_alone() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "spikeaudio").rglob("*.py"))
    ]
    code = f"""
import torch, importlib
threads = torch.get_num_threads()
for name in {names}:
    importlib.import_module(name)
assert torch.get_num_threads() == threads
assert not torch.cuda.is_initialized()
"""
    python(code)


def test_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == spikeaudio.__version__
