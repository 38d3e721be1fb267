"""Codebook: nearest rows by definition, moving averages by definition, no dead rows, exact resume."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing

from spikeaudio.tokenizer.codebook import Codebook, CodebookTrainer, perplexity


def test_nearest_row_and_first_on_ties():
    codebook = Codebook(4, 2)
    codebook.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 0.0], [-2.0, 0.0]]))
    features = torch.tensor([[0.9, 0.1], [0.0, 2.0], [-9.0, 0.0]])
    assert codebook.nearest(features).tolist() == [0, 1, 3]
    # No normalisation: by angle, the last one would belong to row 0.
    assert codebook.nearest(torch.tensor([[5.0, 5.1]])).tolist() == [1]


def test_nearest_equals_cdist():
    codebook, features = Codebook(50, 8), torch.randn(3, 7, 8)
    codebook.weight.copy_(torch.randn(50, 8))
    expected = torch.cdist(features.double(), codebook.weight.double().expand(3, -1, -1)).argmin(-1)
    assert torch.equal(codebook.nearest(features), expected)


def test_moving_average_by_its_definition():
    codebook, trainer = Codebook(2, 1), CodebookTrainer(2, 1, decay=0.9, reservoir_size=8)
    trainer.update(codebook, torch.tensor([[0.0], [0.1], [4.0], [4.1]]), torch.zeros(4, dtype=torch.long))  # k-means
    assert sorted(codebook.weight.flatten().tolist()) == pytest.approx([0.05, 4.05], abs=1e-6)
    low = int(codebook.weight.argmin())
    count, total = trainer.count.clone(), trainer.total.clone()
    features = torch.tensor([[0.25], [0.35], [4.0]])
    codes = codebook.nearest(features)
    trainer.update(codebook, features, codes)
    assert codes.tolist() == [low, low, 1 - low]
    expected_count = 0.9 * count + 0.1 * torch.bincount(codes, minlength=2)
    expected_total = 0.9 * total[low] + 0.1 * 0.6
    torch.testing.assert_close(trainer.count, expected_count)
    torch.testing.assert_close(codebook.weight[low], expected_total / expected_count[low], rtol=1e-4, atol=0)


def test_warmup_leaves_rows_alone_then_puts_them_onto_data():
    codebook = Codebook(16, 4)
    before = codebook.weight.clone()
    trainer = CodebookTrainer(16, 4, warmup_steps=3, reservoir_size=256)
    data = torch.randn(16, 4).repeat_interleave(4, 0) * 10
    for _ in range(3):
        assert not trainer.ready
        trainer.update(codebook, data, torch.zeros(len(data), dtype=torch.long))
        assert torch.equal(codebook.weight, before)
    trainer.update(codebook, data, torch.zeros(len(data), dtype=torch.long))
    assert trainer.ready
    assert perplexity(codebook.nearest(data), 16) > 10


def test_unused_rows_are_restarted():
    codebook, trainer = Codebook(8, 2), CodebookTrainer(8, 2, decay=0.5, restart_interval=20, reservoir_size=64)
    trainer.update(codebook, torch.randn(64, 2), torch.zeros(64, dtype=torch.long))
    far = torch.randn(64, 2) + 100.0  # the data move away: one row would take them all
    for _ in range(40):
        trainer.update(codebook, far, codebook.nearest(far))
    assert perplexity(codebook.nearest(far), 8) > 4
    assert (codebook.weight > 90).all()


def test_resume_is_exact():
    def run(steps: int, codebook: Codebook, trainer: CodebookTrainer, first: int = 0) -> None:
        for step in range(first, steps):
            features = torch.randn(64, 4, generator=torch.Generator().manual_seed(step))
            trainer.update(codebook, features, codebook.nearest(features))

    def make() -> tuple[Codebook, CodebookTrainer]:
        return Codebook(32, 4), CodebookTrainer(32, 4, restart_interval=3, warmup_steps=4, reservoir_size=100)

    whole, stopped, resumed = make(), make(), make()
    stopped[0].load_state_dict(whole[0].state_dict())
    run(20, *whole)
    run(9, *stopped)
    for new, old in zip(resumed, stopped, strict=True):
        new.load_state_dict(old.state_dict())
    run(20, *resumed, first=9)
    assert torch.equal(whole[0].weight, resumed[0].weight)


def test_errors_say_what_is_missing():
    with pytest.raises(ValueError, match="at least num_codes = 64"):
        CodebookTrainer(64, 4, reservoir_size=32)
    trainer = CodebookTrainer(64, 4, reservoir_size=64)
    with pytest.raises(ValueError, match="64 codes"):
        trainer.update(Codebook(64, 4), torch.randn(10, 4), torch.zeros(10, dtype=torch.long))


def test_perplexity_counts_codes_in_even_use():
    assert perplexity(torch.tensor([0, 1, 2, 3]), 10) == pytest.approx(4.0)
    assert perplexity(torch.tensor([5, 5, 5]), 10) == pytest.approx(1.0)


def _train_share(rank: int, folder: Path) -> None:
    """One of two processes: every batch is split between them; the codebook of each is written out."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    codebook, trainer = Codebook(8, 4), CodebookTrainer(8, 4, restart_interval=3, warmup_steps=2)
    for step in range(8):  # the last one is no restart, at which rank 0 would say what the rows are
        features = torch.randn(64, 4, generator=torch.Generator().manual_seed(step))[rank::2]
        trainer.update(codebook, features, codebook.nearest(features))
    save_file({"rows": codebook.weight.data, "count": trainer.count}, folder / f"{rank}.safetensors")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_that_share_a_batch_share_a_codebook(tmp_path: Path) -> None:
    multiprocessing.spawn(_train_share, (tmp_path,), nprocs=2)
    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert torch.equal(one["rows"], other["rows"]) and torch.equal(one["count"], other["count"])
    # k-means leaves a count of 1 per row; then five averages over both halves, 64 vectors each
    assert float(one["count"].sum()) == pytest.approx(64 - (64 - 8) * 0.99**5, rel=1e-5)
