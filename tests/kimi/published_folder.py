"""A download of Kimi-Audio in small: the golden fixtures' weights in exactly the published layout.

The fixtures were made apart, and language model, speech tokenizer and detokenizer know 128, 96 and 64 codes: codebook
and code embedding get further random rows, which changes nothing that the first ones say.
"""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file

SHARDS = ("model-1-of-2.safetensors", "model-2-of-2.safetensors", "model-3-of-3.safetensors")
LAST_SHARD = ("model.embed_tokens.", "model.norm.", "lm_head.", "mimo_output.", "model.mimo_norm.")


def sizes(golden: Path) -> tuple[int, int]:
    """Number of codes and id of text_eos of the golden language model."""
    config = json.loads((golden / "config.json").read_text())
    return config["vocab_size"] - config["kimia_token_offset"], config["num_base_tokens"] + 24


def more_rows(tensor: torch.Tensor, rows: int, scale: float) -> torch.Tensor:
    """`tensor` with random rows behind its own."""
    extra = scale * torch.randn(rows - len(tensor), *tensor.shape[1:], generator=torch.Generator().manual_seed(5))
    return torch.cat([tensor, extra])


def write_language_model(folder: Path, golden: Path) -> None:
    config = json.loads((golden / "config.json").read_text()) | {"model_type": "moonshot_kimia"}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(golden / "model.safetensors")
    weights["lm_head.weight"][sizes(golden)[1]] *= 0.1  # as it is, most texts are empty
    stacks = {"layers": config["num_hidden_layers"], "mimo_layers": config["kimia_mimo_layers"]}
    for stack, count in stacks.items():
        for index in range(count):
            weights[f"model.{stack}.{index}.self_attn.rotary_emb.inv_freq"] = torch.ones(8, dtype=torch.bfloat16)
    shard_of = {}
    for index, name in enumerate(sorted(weights)):
        shard_of[name] = SHARDS[2] if name.startswith(LAST_SHARD) else SHARDS[index % 2]
    for shard in SHARDS:
        save_file({name: weights[name] for name in weights if shard_of[name] == shard}, folder / shard)
    index_file = {"metadata": {"total_size": 1}, "weight_map": shard_of}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_file))
    assert config["num_base_tokens"] == 256
    lines = [f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256)]
    (folder / "tiktoken.model").write_text("".join(lines))
    (folder / "tokenization_kimia.py").write_text("raise RuntimeError('remote code was run')\n")
    remote = {"auto_map": {"AutoTokenizer": ["tokenization_kimia.TikTokenTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TikTokenTokenizer"} | remote))
    (folder / "generation_config.json").write_text(json.dumps({"max_length": 7}))


def write_published(folder: Path, golden: Callable[[str], Path], speech_tokenizer: Path | None) -> Path:
    """Write the download to `folder`, and the GLM-4-Voice tokenizer to another one."""
    folder.mkdir(parents=True)
    codes, _ = sizes(golden("kimi_llm_tiny"))
    write_language_model(folder, golden("kimi_llm_tiny"))

    (folder / "whisper-large-v3").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(golden("whisper_features_tiny") / name, folder / "whisper-large-v3" / name)

    detokenizer = folder / "audio_detokenizer"
    detokenizer.mkdir()
    source = golden("detok_dit_tiny")
    config = yaml.safe_load((source / "config.yaml").read_text())
    config["model"]["dit"] |= {"semantic_vocab_size": codes, "condition_input_dim": 1280}
    (detokenizer / "config.yaml").write_text(yaml.safe_dump(config | {"ode_steps": 150, "cfg_scale": 4.0}))
    weights = load_file(source / "model.safetensors")
    embedding = "speech_model.semantic_token_embedding.weight"
    weights[embedding] = more_rows(weights[embedding], codes + 1, 1.0)
    left_over = {"resampler.kernel": torch.zeros(3), "ema.input_linear.weight": torch.zeros(2)}
    torch.save({"state_dict": weights | left_over, "global_step": 7}, detokenizer / "model.pt")

    vocoder = folder / "vocoder"
    vocoder.mkdir()
    source = golden("bigvgan_tiny")
    shutil.copy(source / "config.json", vocoder / "config.json")
    torch.save({"generator": load_file(source / "generator.safetensors")}, vocoder / "model.pt")

    if speech_tokenizer is not None:
        source = golden("glm4_tokenizer_tiny")
        shutil.copytree(source, speech_tokenizer, ignore=shutil.ignore_patterns("fixture*", "README*"))
        speech_tokenizer.chmod(0o755)
        config = json.loads((source / "config.json").read_text()) | {"quantize_vocab_size": codes}
        weights = load_file(source / "model.safetensors")
        for name, scale in (("codebook.weight", 1e3), ("ema_weight", 1.0), ("ema_count", 1.0)):
            if name in weights:
                weights[name] = more_rows(weights[name], codes, scale)
        for name in ("config.json", "model.safetensors"):
            (speech_tokenizer / name).unlink()
        (speech_tokenizer / "config.json").write_text(json.dumps(config))
        save_file(weights, speech_tokenizer / "model.safetensors")
    return folder
