"""How often a run draws each noise level: the facts of a family, before anybody chooses otherwise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

UNIFORM, LOGIT_NORMAL = "uniform", "logit-normal"


@dataclass(frozen=True)
class TokenShift:
    """A shift that grows with the picture: the same noise hides less of a larger one.

    shift = exp(mu), with mu linear in the number of the picture's tokens and not limited outside of the two
    points. Esser et al. 2024, arXiv 2403.03206, section 5.3.2, in the form of Flux; the defaults are Flux's.
    """

    tokens: tuple[int, int] = (256, 4096)  # of two sizes of picture: 256 x 256 and 1024 x 1024 pixels
    mu: tuple[float, float] = (0.5, 1.15)  # at these
    patch: int = 2  # pixels of the latent along one side of a token

    def shift(self, tokens: int) -> float:
        """The shift of a picture of so many tokens."""
        (few, many), (low, high) = self.tokens, self.mu
        return math.exp(low + (high - low) * (tokens - few) / (many - few))

    def tokens_of(self, shape: Sequence[int]) -> int:
        """How many tokens latents of this shape have: [..., height, width]."""
        return (shape[-2] // self.patch) * (shape[-1] // self.patch)


@dataclass(frozen=True)
class Distribution:
    """How often noise levels are drawn, over u: 0 is the least noise, 1 the most.

    u is uniform, or the sigmoid of a normal number (Esser et al. 2024, arXiv 2403.03206, section 3.1). A
    shift s moves it towards much noise: u -> s u / (1 + (s - 1) u).
    """

    kind: str = UNIFORM  # or LOGIT_NORMAL
    mean: float = 0.0  # of the normal number
    std: float = 1.0  # of the normal number
    shift: float = 1.0
    by_tokens: TokenShift | None = None  # in place of `shift`
    custom: str = ""  # whose custom it is; empty: somebody's choice for one run

    def shift_for(self, shape: Sequence[int]) -> float:
        """The shift for latents of this shape."""
        if self.by_tokens is None:
            return self.shift
        return self.by_tokens.shift(self.by_tokens.tokens_of(shape))

    @property
    def shifts(self) -> tuple[float, ...]:
        """The shift; where it goes by the size of the picture, those of its two sizes."""
        if self.by_tokens is None:
            return (self.shift,)
        return tuple(map(self.by_tokens.shift, self.by_tokens.tokens))

    def __str__(self) -> str:
        """In words, without whose it is."""
        words = [self.kind]
        if self.kind == LOGIT_NORMAL and (self.mean, self.std) != (0, 1):
            words.append(f"mean {self.mean:g}, deviation {self.std:g}")
        if self.by_tokens:
            sizes = zip(self.shifts, self.by_tokens.tokens, strict=True)
            words.append("shift by size, " + " to ".join(f"{s:.2f} at {count} tokens" for s, count in sizes))
        elif self.shift != 1:
            words.append(f"shift {self.shift:g}")
        return ", ".join(words)
