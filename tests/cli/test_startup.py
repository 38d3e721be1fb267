"""A command imports less than the library does, gives the same transcript, and takes nothing away from PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    """Standard output of `code` in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_command_leaves_the_compiler_out_and_hears_the_same(tiny_checkpoint: Path) -> None:
    clip = "spikeaudio/samples/sum.wav"
    transcribe = f"""
import sys
from spikeaudio.cli.app import main
try:
    main(["transcribe", {clip!r}, "--model", {str(tiny_checkpoint)!r}])
except SystemExit as stop:
    assert not stop.code
"""
    check = """
for name in ("torch._dynamo.convert_frame", "torch.distributed.tensor", "scipy.optimize", "sympy.core"):
    assert name not in sys.modules, name
print(len(sys.modules))
import gc, torch
from torch.fx.experimental.symbolic_shapes import guard_or_false  # ours still
assert guard_or_false(True) and "sympy.core" not in sys.modules
from torch.fx.experimental.symbolic_shapes import ShapeEnv
assert guard_or_false(ShapeEnv().create_unbacked_symint() > 5) is False  # nobody can know
assert gc.isenabled() and torch.distributed.is_available()
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).sum() == 4
assert "torch._dynamo.convert_frame" in sys.modules
import scipy.optimize, sympy
assert sympy.Symbol("n") + 1 - 1 == sympy.Symbol("n")
seen = torch.export.export(torch.nn.Flatten(), (torch.ones(3, 2, 4),), dynamic_shapes=({0: torch.export.Dim("n")},))
assert seen.module()(torch.ones(5, 2, 4)).shape == (5, 8)  # symbols are told from numbers
"""
    said, modules = python(transcribe + check).splitlines()
    library = f"""
import sys
from spikeaudio import SpikeAudio
print(SpikeAudio.from_pretrained({str(tiny_checkpoint)!r}).transcribe({clip!r}))
print(len(sys.modules))
"""
    expected, more = python(library).splitlines()
    assert said == expected
    assert int(modules) < 0.85 * int(more)
