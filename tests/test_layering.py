"""The house rules that no linter knows: import directions, and what library code never does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spikeaudio"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module imports only from lower layers, or from its own room.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"audio"}),
    frozenset({"spiking"}),
    frozenset({"tokenizer", "lm", "detokenizer", "vocoder"}),
    frozenset(
        {
            "answers",
            "checkpoint",
            "checkpoint_reader",
            "contract",
            "kimi",
            "kimi_prompt",
            "messages",
            "normalization",
            "pipeline",
            "processing",
            "prompt",
            "prompt_batch",
            "prompt_layout",
            "raw_audio",
            "reading",
            "segmentation",
            "speech_decoder",
            "speech_model",
            "streaming",
            "turns",
        }
    ),
    frozenset({"data", "training"}),
    frozenset({"cli", "demo", "doctor", "profile", "spike", "spike_report"}),
)
# Import each other freely: they are one layer of single files. Rooms of the other layers never import their siblings.
JOINED = frozenset({3, 5})
# The one module that reads pickles: published ones, by the restricted unpickler.
PICKLES = Path("kimi", "weights.py")
# Outside the layers: the package's names and their registration, by name only.
OUTSIDE = frozenset({"__init__", "registration"})
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room(path: Path) -> str:
    """First part of a module's name below spikeaudio."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(tree: ast.AST) -> Iterator[str]:
    """Rooms of our own package that a module imports, wherever in it."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "spikeaudio":
            names = [f"spikeaudio.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "spikeaudio" and len(parts) > 1:
                yield parts[1]


def forbidden(importer: str, imported: str) -> bool:
    """Whether a module in one room must not import from another."""
    if importer == imported or imported not in LEVEL:  # public names such as SpikeAudio: only the top uses them
        return imported not in LEVEL and LEVEL[importer] < len(LAYERS) - 1
    ours, theirs = LEVEL[importer], LEVEL[imported]
    return theirs > ours or (theirs == ours and ours not in JOINED) or (imported == "spiking" and ours == 2)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    if room(path) in OUTSIDE:
        return
    assert room(path) in LEVEL, f"give {room(path)} a layer in tests/test_layering.py"
    wrong = {name for name in imported_rooms(ast.parse(path.read_text())) if forbidden(room(path), name)}
    assert not wrong, f"{path.relative_to(ROOT)} must not import {wrong}"


def test_the_rule_catches_what_it_should() -> None:
    assert forbidden("audio", "lm")
    assert forbidden("lm", "detokenizer")
    assert forbidden("lm", "spiking")
    assert forbidden("pipeline", "training")
    assert forbidden("lm", "SpikeAudio")
    assert not forbidden("pipeline", "lm")
    assert not forbidden("lm", "lm")
    assert not forbidden("training", "pipeline")
    assert not forbidden("cli", "SpikeAudio")
    assert set(imported_rooms(ast.parse("import spikeaudio.lm\nfrom spikeaudio.audio import x"))) == {"lm", "audio"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_library_code_keeps_off(path: Path) -> None:
    """No .cuda(), no pickled weights, no sys.path, no device by name, a docstring in every module."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "a module begins with a docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            called = f"{node.value.id}.{node.attr}" if isinstance(node.value, ast.Name) else f".{node.attr}"
            if path.relative_to(PACKAGE) != PICKLES:
                assert called != "torch.load", f"line {node.lineno}: {called}"
            assert called != "sys.path", f"line {node.lineno}: {called}"
            assert node.attr != "cuda", f"line {node.lineno}: {called}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value != "cuda", f"line {node.lineno}: device and dtype follow the input or the weights"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, "one noun per file; split it"


def test_recipes_and_eval_use_public_names_only() -> None:
    for path in [*(ROOT / "recipes").rglob("*.py"), *(ROOT / "eval").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spikeaudio"):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{path.relative_to(ROOT)} imports {private}"
