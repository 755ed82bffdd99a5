"""How many pictures are computed at once, and fewer where they do not fit into memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .memory import is_out_of_memory

Result = TypeVar("Result")


@dataclass
class AtOnce:
    """How many pictures are computed at once. What did not fit into memory once is not tried again."""

    pictures: int  # at most

    def fitting(
        self, count: int, compute: Callable[[int], Result], before_again: Callable[[], object]
    ) -> Result:
        """`compute(n)` for `count` pictures, n of them at once.

        Where that runs out of memory it is begun anew with half as many, down to one. `before_again` is
        called in between, to free what the attempt has left. Raises the error of the last attempt.
        """
        while True:
            at_once = min(self.pictures, count)
            try:
                return compute(at_once)
            except Exception as error:
                if at_once == 1 or not is_out_of_memory(error):
                    raise
            # Out here, where no error holds the frames that hold the tensors.
            self.pictures = at_once // 2
            before_again()
