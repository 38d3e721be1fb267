"""Text that is given, not chosen: a constraint for `generate`."""

from torch import Tensor


class ForcedText:
    """A ``prefix_allowed_tokens_fn`` that lets each row write its given ids and nothing else.

    Args:
        rows: per row the ids, the last one text_eos.
        prompt_length: positions of the prompt.
    """

    def __init__(self, rows: list[list[int]], prompt_length: int) -> None:
        self.rows = rows
        self.prompt_length = prompt_length

    def __call__(self, row: int, ids: Tensor) -> list[int]:
        """The one id that may come next in `row`, whose text stream is `ids` so far."""
        forced = self.rows[row]
        return [forced[min(len(ids) - self.prompt_length, len(forced) - 1)]]
