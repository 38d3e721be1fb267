"""The house rules that no linter knows: import directions, and what library code never does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spikeaudio"
FILES = sorted(PACKAGE.rglob("*.py"))

Floors = tuple[frozenset[str], ...]


def floors(*rooms: str) -> Floors:
    """Floors from the ground up, each a line of rooms."""
    return tuple(frozenset(line.split()) for line in rooms)


# A module imports from lower floors and from its own room; rooms of one floor never import each other.
HOUSES: dict[str, Floors] = {
    "spikeaudio": floors(
        "audio checkpoint",
        "spiking",
        "tokenizer lm detokenizer vocoder",
        "prompt",
        "speech",
        "loading",
        "pipeline training",
        "neuromorphic",
        "cli",
    ),
    "spikeaudio.spiking": floors(
        "neurons transforms weights",
        "kernels",
        "layers",
        "config",
        "conversion counting preset",
        "quantizer",
        "preparation",
    ),
    "spikeaudio.loading": floors("auto contract registration", "kimi", "reader", "joined"),
    "eval": floors(
        "digest sample",
        "task",
        "adapters tasks texts",
        "dialogue judges",
        "metrics",
        "run",
        "scores",
        "pages",
        "benchmarks tiny_floors",
    ),
}
# The models meet spikes in transformers' registry of quantizers: they never import them.
APART = {("tokenizer", "spiking"), ("lm", "spiking"), ("detokenizer", "spiking"), ("vocoder", "spiking")}
# Names that start a program or lazily name everything.
OUTSIDE = frozenset({"__init__", "__main__"})
# Loose modules in a root: more than these need a room.
LOOSE = {"spikeaudio": 3, "eval": 6}
# The one module that reads pickles: published ones, by the restricted unpickler.
PICKLES = Path("loading", "kimi", "weights.py")


def modules(house: str) -> Iterator[tuple[Path, str]]:
    """Files of a house, each with the room it is in."""
    folder = ROOT.joinpath(*house.split("."))
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).with_suffix("").parts[0]
        if room not in OUTSIDE:
            yield path, room


def imported_rooms(tree: ast.AST, house: str) -> Iterator[str]:
    """Rooms of a house that a module imports, wherever in it."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == house:
            names = [f"{house}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            if name.startswith(f"{house}."):
                yield name.removeprefix(f"{house}.").split(".")[0]


def forbidden(house: str, importer: str, imported: str) -> bool:
    """Whether a module in one room must not import from another."""
    level = {room: floor for floor, rooms in enumerate(HOUSES[house]) for room in rooms}
    if importer == imported:
        return False
    if imported not in level:  # a public name such as SpikeAudio: only the top uses those
        return level[importer] < len(HOUSES[house]) - 1
    return level[imported] >= level[importer] or (importer, imported) in APART


@pytest.mark.parametrize("house", HOUSES)
def test_every_room_has_a_floor(house: str) -> None:
    known = frozenset().union(*HOUSES[house])
    found = {room for _, room in modules(house)}
    assert found == known, f"tests/test_layering.py and the rooms of {house} differ"


@pytest.mark.parametrize("house", HOUSES)
def test_imports_go_down(house: str) -> None:
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path, room in modules(house)
        for name in imported_rooms(ast.parse(path.read_text()), house)
        if forbidden(house, room, name)
    }
    assert not wrong


@pytest.mark.parametrize("house", LOOSE)
def test_few_modules_stand_loose(house: str) -> None:
    loose = [path.name for path in (ROOT / house).glob("*.py")]
    assert len(loose) <= LOOSE[house], f"a room for one of {loose}"


def test_the_rule_catches_what_it_should() -> None:
    def wrong(importer: str, imported: str) -> bool:
        return forbidden("spikeaudio", importer, imported)

    assert wrong("audio", "lm")
    assert wrong("lm", "detokenizer")
    assert wrong("lm", "spiking")
    assert wrong("pipeline", "training")
    assert wrong("lm", "SpikeAudio")
    assert not wrong("pipeline", "lm")
    assert not wrong("lm", "lm")
    assert not wrong("neuromorphic", "pipeline")
    assert not wrong("cli", "SpikeAudio")
    assert forbidden("spikeaudio.spiking", "neurons", "layers")
    found = imported_rooms(ast.parse("import spikeaudio.lm\nfrom spikeaudio.audio.files import x"), "spikeaudio")
    assert set(found) == {"lm", "audio"}


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
