"""What can be wrong with a download: one clear sentence each."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMultimodalLM, AutoProcessor

from spikeaudio import SpikeAudio
from tests.fixtures.published_folder import SHARDS

pytestmark = pytest.mark.golden


def refused(download: Path, error: type[Exception], *words: str) -> str:
    """The one-line message with which the download is refused."""
    with pytest.raises(error) as caught:
        SpikeAudio.from_pretrained(download)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message
    return message


def cut(path: Path, bytes_off: int) -> None:
    path.write_bytes(path.read_bytes()[:-bytes_off])


def changed_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_shard(download):
    (download / SHARDS[1]).unlink()
    refused(download, FileNotFoundError, "of 3 shards it has no model-2-of-2.safetensors")


def test_truncated_shard(download):
    cut(download / SHARDS[0], 100)
    refused(download, ValueError, SHARDS[0], "damaged or cut short")


def test_truncated_encoder(download):
    cut(download / "whisper-large-v3" / "model.safetensors", 100)
    refused(download, ValueError, "whisper-large-v3", "damaged or cut short")


def test_a_shard_that_is_not_what_the_index_says(download):
    shutil.copy(download / SHARDS[0], download / SHARDS[2])
    refused(download, ValueError, "does not hold what model.safetensors.index.json says")


@pytest.mark.parametrize("part", ["audio_detokenizer", "vocoder"])
def test_truncated_pickle(download, part):
    path = download / part / "model.pt"
    cut(path, path.stat().st_size // 3)
    refused(download, ValueError, f"{part}/model.pt", "damaged, cut short")


class RunsCode:
    """Something that a pickle could bring along."""

    def __reduce__(self):
        return (Path.touch, (Path("ran_code"),))


def test_pickle_that_holds_more_than_tensors(download, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = download / "vocoder" / "model.pt"
    loaded = torch.load(path, weights_only=True)
    torch.save(loaded | {"hyper_parameters": RunsCode()}, path)
    refused(download, ValueError, "vocoder/model.pt holds more than tensors", "refused")
    path.write_bytes(pickle.dumps(RunsCode()))
    refused(download, ValueError, "vocoder/model.pt")
    assert not (tmp_path / "ran_code").exists()


def test_pickle_with_other_contents(download):
    path = download / "audio_detokenizer" / "model.pt"
    torch.save({"weights": {}}, path)
    refused(download, ValueError, "weights under 'state_dict'", "the keys weights")
    torch.save({"state_dict": {"speech_model.input_linear.weight": 3}}, path)
    refused(download, ValueError, "tensors alone", "speech_model.input_linear.weight")
    torch.save({"state_dict": {"optimizer": torch.zeros(1)}}, path)
    refused(download, ValueError, "no name contains 'speech_model.'")


def test_weights_missing_left_over_or_of_another_shape(download):
    path = download / SHARDS[2]
    weights = load_file(path)
    index = json.loads((download / "model.safetensors.index.json").read_text())

    def write(tensors: dict) -> None:
        save_file(tensors, path)
        shard_of = {name: shard for name, shard in index["weight_map"].items() if shard != SHARDS[2]}
        changed_json(download / "model.safetensors.index.json", weight_map=shard_of | dict.fromkeys(tensors, SHARDS[2]))

    write({name: tensor for name, tensor in weights.items() if name != "model.mimo_norm.weight"})
    refused(download, ValueError, "missing: model.mimo_norm.weight")
    behind = (
        f"model.layers.{json.loads((download / 'config.json').read_text())['num_hidden_layers']}.mlp.up_proj.weight"
    )
    write(weights | {behind: torch.zeros(2)})
    refused(download, ValueError, f"left over: {behind}")
    write(weights | {"model.visual.weight": torch.zeros(2)})
    refused(download, ValueError, "no place in the model: model.visual.weight")
    write(weights | {"mimo_output.weight": weights["mimo_output.weight"][:-1]})
    refused(download, ValueError, "of another shape than its configuration says: mimo_output.weight")


def test_unpaired_weight_norm_and_unknown_network(download):
    path = download / "vocoder" / "model.pt"
    weights = torch.load(path, weights_only=True)["generator"]
    torch.save({"generator": {name: w for name, w in weights.items() if name != "conv_pre.weight_g"}}, path)
    refused(download, ValueError, "conv_pre.weight_g")
    changed_json(download / "vocoder" / "config.json", resblock="2")
    refused(download, ValueError, "resblock must be '1', got '2'")
    path = download / "audio_detokenizer" / "config.yaml"
    values = yaml.safe_load(path.read_text())
    values["model"]["dit"]["ffn_type"] = "gated"
    path.write_text(yaml.safe_dump(values))
    refused(download, ValueError, "another network", "'ffn_type': 'gated'")
    del values["model"]["dit"]["depth"]
    path.write_text(yaml.safe_dump(values))
    refused(download, ValueError, "no key 'depth'")


def test_config_with_unknown_keys(download):
    changed_json(download / "config.json", kimia_mimo_heads=3)
    message = refused(download, ValueError, "unknown keys ['kimia_mimo_heads']", "kimia_mimo_layers")
    with pytest.raises(ValueError, match="kimia_mimo_heads"):
        AutoModelForMultimodalLM.from_pretrained(download)
    assert "Qwen2" in message


def test_config_that_contradicts_itself(download):
    right = json.loads((download / "config.json").read_text())
    begin, end = right["kimia_media_begin"], right["kimia_media_end"]
    changed_json(download / "config.json", kimia_media_begin=3)
    refused(download, ValueError, f"kimia_media_begin and kimia_media_end must be {begin} and {end}")
    changed_json(download / "config.json", kimia_media_begin=begin, use_whisper_feature=False)
    refused(download, ValueError, "use_whisper_feature must be true")


def test_vocabulary_of_another_model(download):
    path = download / "tiktoken.model"
    lines = path.read_text().splitlines(keepends=True)
    count = len(lines)
    path.write_text("".join(lines[:-6]))
    refused(
        download,
        ValueError,
        f"tiktoken.model holds {count - 6} tokens",
        f"0 to {count - 1}",
        "another model's vocabulary",
    )
    with pytest.raises(ValueError, match="another model's vocabulary"):
        AutoProcessor.from_pretrained(download)
    path.write_text("".join([*lines[:-1], f"no base64 {count - 1}\n"]))
    refused(download, ValueError, f"line {count} of", "not a token in base64 and its rank")
    path.write_text("".join([*lines[:255], "QUE= 255\n", *lines[256:]]))
    refused(download, ValueError, "some of the 256 bytes")
    path.unlink()
    refused(download, FileNotFoundError, "it has no tiktoken.model")


def test_missing_speech_tokenizer(download, tmp_path):
    shutil.rmtree(download.parent / "glm-4-voice-tokenizer")
    model = SpikeAudio.from_pretrained(download)  # it still reads and writes
    with pytest.raises(ValueError, match=r"cannot hear.*hf download zai-org/glm-4-voice-tokenizer --local-dir"):
        model.transcribe(torch.randn(16000))
    with pytest.raises(FileNotFoundError, match=r"no speech tokenizer at .*nowhere.*hf download"):
        SpikeAudio.from_pretrained(download, speech_tokenizer=tmp_path / "nowhere")


def test_missing_encoder(download):
    shutil.rmtree(download / "whisper-large-v3")
    refused(download, FileNotFoundError, "whisper-large-v3 is not complete: it has no config.json")


def test_a_folder_of_ours_takes_no_speech_tokenizer(tiny_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="speech_tokenizer is for a download of Kimi-Audio"):
        SpikeAudio.from_pretrained(tiny_checkpoint, speech_tokenizer=tmp_path)
