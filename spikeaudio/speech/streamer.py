"""AudioTextStreamer: the two streams of one `generate` call as an iterator over words and sound.

`generate` runs in another thread and puts the ids of each step; whoever iterates turns them into events, so that the
speech decoder works while the model goes on. As with transformers' TextIteratorStreamer:

    streamer = AudioTextStreamer(processor, decoder)
    Thread(target=model.generate, kwargs={**inputs, "generation_mode": "audio", "streamer": streamer}).start()
    for event in streamer: ...

The pieces of sound joined are what the decoder makes of all codes at once, for any length of the pieces. Without
transformers' `generate`, :mod:`spikeaudio.speech.answering` streams without a thread, and can be stopped.
"""

from collections.abc import Iterator
from queue import Queue

from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.assembly import EventAssembler
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.events import Event

_Step = tuple[int, int]  # (text id, audio id) of one step


class AudioTextStreamer(BaseStreamer):
    """Streams one conversation; iterate over it once.

    Args:
        processor: for its layout and text tokenizer.
        decoder: makes sound of codes; None for text alone.
        seed: Seed of the decoder's noise.
        timeout: seconds to wait for the next step before ``queue.Empty`` is raised; None: forever.
        voice: Voice of the speech; None: the decoder's own.
    """

    def __init__(
        self,
        processor: SpikeAudioProcessor,
        decoder: SpeechDecoder | None = None,
        seed: int = 0,
        timeout: float | None = None,
        voice: VoicePrompt | None = None,
    ) -> None:
        self.timeout = timeout
        self._assembler = EventAssembler(processor, decoder, seed, voice)
        self._queue: Queue[_Step | Exception | None] = Queue()

    def put(self, value: Tensor) -> None:
        """Takes the prompt, which is not streamed.

        Raises:
            ValueError: the batch has more than one row.
        """
        if value.ndim > 1 and value.shape[0] > 1:
            raise ValueError(f"AudioTextStreamer streams one conversation, got a batch of {value.shape[0]}")

    def put_streams(self, text_ids: Tensor, audio_ids: Tensor) -> None:
        """Takes one step of both streams, (1,) ids each."""
        self._queue.put((int(text_ids[0]), int(audio_ids[0])))

    def end(self) -> None:
        """Called by `generate` when it is done."""
        self._queue.put(None)

    def fail(self, error: Exception) -> None:
        """Have the iterating thread raise what made `generate` stop."""
        self._queue.put(error)

    def __iter__(self) -> Iterator[Event]:
        while (step := self._queue.get(timeout=self.timeout)) is not None:
            if isinstance(step, Exception):
                raise step
            yield from self._assembler.push(*step)
        yield from self._assembler.flush()
