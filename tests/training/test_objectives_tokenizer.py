"""The tokenizer's objective: spelling, best path, and a tiny model that learns through the warm-up into its codes."""

import pytest
import torch

from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.training.objectives.tokenizer import VOCABULARY, CTCHead, TokenizerTrainer, greedy_decode, read, spell

CONFIG = WhisperVQConfig(
    num_mel_bins=80,
    d_model=32,
    encoder_layers=2,
    encoder_attention_heads=2,
    encoder_ffn_dim=64,
    pooling_position=1,
    quantize_position=2,
    quantize_vocab_size=32,
    quantize_causal_block_size=200,
    quantize_loss_scale=1.0,
    quantize_restart_interval=20,
    max_source_positions=200,
    init_std=0.1,
)


def test_spelling():
    assert read(spell("don't  stop, now")) == "don't stop now"
    assert read(spell("", [0, 7, 3])) == "073"
    assert max(spell("z", [7])) == VOCABULARY - 1
    with pytest.raises(ValueError, match=r"symbols must be in 0\.\.7"):
        spell("", [8])


def test_best_path_merges_repeats_and_drops_blanks_and_padding():
    path = torch.tensor([[0, *spell("ll"), 0, *spell("lo"), 0, *spell("x")]])
    log_probs = torch.nn.functional.one_hot(path, VOCABULARY).float().log()
    assert greedy_decode(log_probs, torch.tensor([7])) == ["llo"]


def test_learns_a_batch_through_warmup_and_codes(tmp_path):
    trainer = TokenizerTrainer(CONFIG, warmup_steps=120, head_layers=1)
    mel = torch.randn(4, 80, 48)
    mask = torch.ones(4, 48)
    mask[3, 32:] = 0
    rows = [spell(text) for text in ("one", "two", "nine", "six")]
    targets, lengths = (
        torch.tensor([letter for row in rows for letter in row]),
        torch.tensor([len(row) for row in rows]),
    )
    optimizer = torch.optim.AdamW([p for p in trainer.parameters() if p.requires_grad], 5e-3)
    figures = []
    for _ in range(180):
        values = trainer(mel, mask, targets, lengths)
        values["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        figures.append({name: float(value.detach()) for name, value in values.items()})
    assert figures[119]["perplexity"] == 0 and figures[-1]["perplexity"] > 1  # continuous first, then codes
    assert figures[-1]["ctc_tokens"] < 0.2  # nats per letter; guessing letters costs about 3
    trainer.eval()
    with torch.no_grad():
        out = trainer.log_probs(mel, mask)
        assert greedy_decode(out["tokens"], out["tokens_length"]) == ["one", "two", "nine", "six"]
        trainer.head.save_pretrained(tmp_path)
        encoded = out["encoded"]
        again = CTCHead.from_pretrained(tmp_path)(encoded.quantized, encoded.codes_mask)
    torch.testing.assert_close(again, out["tokens"], rtol=0, atol=0)
