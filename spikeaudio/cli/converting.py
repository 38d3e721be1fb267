"""Commands that write a published model in our own layout: convert kimi."""

from pathlib import Path
from typing import Annotated

import typer


def kimi(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Download of Kimi-Audio.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder of the new checkpoint; must not exist.")],
    speech_tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the GLM-4-Voice tokenizer, unless it lies in SRC or beside it.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the new weights: auto (as published), float32, bfloat16, float16.")
    ] = "auto",
) -> None:
    """Write Kimi-Audio in our layout, shard by shard.

    Given again after a kill, the same command goes on where it was.
    """
    from spikeaudio.loading.kimi.conversion import convert

    typer.echo(convert(source, destination, speech_tokenizer, dtype))
