"""The examples that ship with the package: they are read whole, and hold every job of the model."""

from pathlib import Path

from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.training.examples import batched, read_examples
from spikeaudio.training.spike import split

EXAMPLES = Path("spikeaudio/samples/examples.jsonl")


def test_they_are_read_and_can_be_split(checkpoint: Path) -> None:
    processor = SpikeAudioProcessor.from_pretrained(checkpoint)
    root = checkpoint.parent.parent
    examples = read_examples(root / EXAMPLES, processor)
    training, held_out = split(examples)
    assert len(training) >= 20 and len(held_out) >= 2
    heard = [each for each in examples if each.inputs]
    spoken = [each for each in examples if (each.ids["audio_labels"] != -100).any()]
    assert len(heard) >= 8 and len(spoken) >= 8 and len(spoken) < len(examples)
    assert all((each.ids["labels"] != -100).any() for each in examples)
    assert (root / EXAMPLES).stat().st_size < 20_000
    [batch] = batched(heard, tokens=100_000)
    assert batch["audio_features"].shape[0] == len(heard)
