"""The benchmark of the detokenizer's schedules runs and writes what it measured."""

import json

from eval.benchmarks import detokenizer_schedule
from eval.benchmarks.schedule_cost import compare


def test_both_schedules_are_measured(tmp_path, capsys, monkeypatch):
    small = compare(hidden_size=32, depth=1, channels=128, ode_steps=1, chunks=1)
    monkeypatch.setattr("eval.benchmarks.schedule_cost.compare", lambda *sizes: small)
    detokenizer_schedule.main(["--quick", "--json", str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["parameters"] > 16384 * 32
    assert min(written[name][part] for name in ("reference", "ours") for part in ("detokenizer", "vocoder")) > 0
    assert written["ratio"]["total"] == written["reference"]["total"] / written["ours"]["total"]
    assert f"{written['ratio']['total']:.2f}" in capsys.readouterr().out
