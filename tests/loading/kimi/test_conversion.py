"""A download converted to our own layout says the same; a conversion that was killed goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForMultimodalLM, AutoProcessor

from spikeaudio import SpikeAudio, SpikeAudioConfig
from spikeaudio.cli.app import main
from spikeaudio.loading.kimi import conversion
from spikeaudio.loading.kimi.conversion import convert
from spikeaudio.speech.events import AudioEvent

pytestmark = pytest.mark.golden

SIZES = sorted(SpikeAudioConfig.__annotations__.keys() - {"model_type", "sub_configs", "audio_encoder_config"})
KILLED = """
import os, signal, sys
from spikeaudio.loading.kimi import conversion
written = []
save = conversion.save_file
def save_and_die(tensors, path, metadata):
    save(tensors, path, metadata=metadata)
    written.append(path)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # complete, but not under its name yet
conversion.save_file = save_and_die
conversion.convert(sys.argv[1], sys.argv[2], shard_bytes=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def converted(published, tmp_path_factory) -> Path:
    return convert(published, tmp_path_factory.mktemp("converted") / "kimi")


@pytest.fixture(scope="module")
def shard_bytes(converted) -> int:
    """A quarter of the language model, or the largest tensor of any part."""
    model = sum(path.stat().st_size for path in converted.glob("*.safetensors"))
    tensors = [tensor.nbytes for path in converted.rglob("*.safetensors") for tensor in load_file(path).values()]
    return max(model // 4, *tensors)


def test_before_and_after_are_equal(published, converted, clip):
    before, after = SpikeAudio.from_pretrained(published), SpikeAudio.from_pretrained(converted)
    for part in ("model", "detokenizer", "vocoder"):
        ours, theirs = getattr(after, part).state_dict(), getattr(before, part).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours), part
    ours, theirs = after.model.config, before.model.config
    assert ours.audio_encoder_config.encoder_layers == theirs.audio_encoder_config.encoder_layers
    assert ours.rope_parameters == theirs.rope_parameters
    assert {name: getattr(ours, name) for name in SIZES} == {name: getattr(theirs, name) for name in SIZES}
    assert after.detokenizer.config.ode_steps == before.detokenizer.config.ode_steps == 29
    assert after.processor.to_dict() == before.processor.to_dict()
    assert after.transcribe(clip, max_new_tokens=6) == before.transcribe(clip, max_new_tokens=6) != ""
    question = [{"role": "user", "content": [{"type": "audio", "audio": clip.numpy()}]}]
    length = ours.audio_delay + 10
    waves = [
        torch.cat([e.wav for e in model.stream(question, max_new_tokens=length, seed=4) if isinstance(e, AudioEvent)])
        for model in (before, after)
    ]
    assert len(waves[0]) > 0
    torch.testing.assert_close(*waves, rtol=0, atol=1e-5)  # where weights lie in memory decides the order of sums


def test_the_converted_folder_is_a_checkpoint_of_ours(converted, clip):
    assert sorted(path.name for path in converted.iterdir() if path.is_dir()) == [
        "detokenizer",
        "speech_tokenizer",
        "vocoder",
    ]
    assert not [path for path in converted.rglob("*") if path.suffix in (".pt", ".part", ".py")]
    model, processor = AutoModelForMultimodalLM.from_pretrained(converted), AutoProcessor.from_pretrained(converted)
    prompt = processor.apply_transcription_request(clip.numpy())
    assert "input_features" in prompt
    output = model.generate(**prompt, max_new_tokens=5)
    assert output.shape[1] > prompt["input_ids"].shape[1]
    assert model.generation_config.audio_top_k == 10
    tokenizer = processor.tokenizer
    assert tokenizer.decode(tokenizer("<|im_msg_end|>")["input_ids"]) == "<|im_msg_end|>"
    assert processor.layout.msg_end_token_id not in tokenizer("<|im_msg_end|>")["input_ids"]


def test_dtype_and_shards(published, shard_bytes, tmp_path, capsys):
    destination = tmp_path / "half"
    convert(published, destination, dtype="bfloat16", shard_bytes=shard_bytes // 2)  # half as many bytes in all
    shards = sorted(destination.glob("*.safetensors"))
    assert len(shards) > 2
    for shard in shards:
        assert sum(tensor.nbytes for tensor in load_file(shard).values()) <= shard_bytes // 2
    for part, expected in {".": "BF16", "detokenizer": "BF16", "vocoder": "BF16", "speech_tokenizer": "F32"}.items():
        for shard in (destination / part).glob("*.safetensors"):
            with safe_open(shard, "pt") as file:
                assert {file.get_slice(name).get_dtype() for name in file.keys()} == {expected}, part
    assert SpikeAudio.from_pretrained(destination, dtype="auto").model.dtype == torch.bfloat16


@pytest.mark.slow
def test_after_a_kill_it_goes_on(published, converted, shard_bytes, tmp_path):
    destination, work = tmp_path / "killed", tmp_path / "killed.work"
    command = [sys.executable, "-c", KILLED, published, destination, str(shard_bytes)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    finished = {path: path.stat().st_mtime_ns for path in work.glob("*.safetensors")}
    assert len(finished) == 2 and not destination.exists()
    with pytest.raises(ValueError, match="is of another conversion"):
        convert(published, destination, dtype="bfloat16", shard_bytes=shard_bytes)
    convert(published, destination, shard_bytes=shard_bytes)
    assert not work.exists()
    for path, time in finished.items():
        assert (destination / path.name).stat().st_mtime_ns == time  # not written again
    again, whole = SpikeAudio.from_pretrained(destination).model, SpikeAudio.from_pretrained(converted).model
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


def test_no_shard_is_larger_than_asked_for(published, shard_bytes, tmp_path, monkeypatch):
    largest = 0

    def measured(tensors, path, metadata):
        nonlocal largest
        largest = max(largest, sum(tensor.nbytes for tensor in tensors.values()))
        Path(path).write_bytes(b"")

    monkeypatch.setattr(conversion, "save_file", measured)
    convert(published, tmp_path / "x", shard_bytes=shard_bytes)
    assert 0 < largest <= shard_bytes


def test_the_command(download, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["convert", "kimi", str(download), str(tmp_path / "new")])
    assert left.value.code == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "new")
    for arguments, words in {
        (str(download), str(tmp_path / "new")): "exists already",
        (str(download), str(download / "new")): "lies in the download",
        (str(tmp_path / "new"), str(tmp_path / "newer")): "is not Kimi-Audio as published",
        (str(download), str(tmp_path / "newer"), "--dtype", "int4"): "dtype must be one of auto",
    }.items():
        with pytest.raises(SystemExit) as left:
            main(["convert", "kimi", *arguments])
        error = capsys.readouterr().err
        assert left.value.code == 2 and words in error and error.count("\n") == 1, error
    (download.parent / "glm-4-voice-tokenizer" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="hf download zai-org/glm-4-voice-tokenizer"):
        convert(download, tmp_path / "newer")
    (download / "vocoder" / "config.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="first `spikeaudio convert kimi"):
        from spikeaudio.spiking.preparation.settings import ConversionSettings
        from spikeaudio.spiking.preset import preset
        from spikeaudio.training.spike import spike

        spike(download, tmp_path / "spikes", tmp_path / "none.jsonl", ConversionSettings(preset("w4a4")))
