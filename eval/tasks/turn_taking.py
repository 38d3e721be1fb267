"""Taking turns: questions with a pause or without, in a simulated dialogue (`eval.dialogue.conversation`)."""

from pathlib import Path

from eval.task import TURN_TAKING, Task
from eval.tasks.bundled import FOLDER
from eval.tasks.manifest import seen_from_here
from eval.tasks.source import ManifestSource

TASKS = (
    Task(
        "bundled_turn_taking",
        TURN_TAKING,
        ManifestSource(Path(seen_from_here(FOLDER / "turn_taking.jsonl")), TURN_TAKING),
        ("takeover_rate", "response_latency", "pause_takeover_rate", "stop_latency", "accuracy"),
        citation="made by the recipe of this repository (recipes/tiny)",
    ),
)
