"""What a network wants beside latents: text, sizes, guidance, masks. ComfyUI's own code makes them."""

from collections.abc import Sequence
from typing import Any

import comfy.conds
import comfy.samplers
import torch

from ..trainer.data.latents import Framing, LatentPicture
from ..trainer.errors import ModelError
from ..trainer.families import Family
from .text_encoder import Text

# What one picture gives the network, by the name of the network's input. ComfyUI's COND objects know whether
# they can be joined in a batch, and how.
Conds = dict[str, Any]

OF_A_PICTURE = ("c_concat", "vace_context")  # what editing, inpainting and animating networks want


class Conditioner:
    """Makes what a MODEL wants of a picture and its text, by the model's own `extra_conds`."""

    def __init__(self, model, family: Family) -> None:
        self.model = model.model
        self.family = family
        self.device = model.load_device
        # of networks that were taught to guide themselves; else ComfyUI has a default
        self._fixed = {} if family.guidance is None else {"guidance": family.guidance}
        self._remembered: dict[int, tuple[LatentPicture, Conds]] = {}

    def of(self, picture: LatentPicture, text: Text) -> Conds:
        """A new one each time: the text's gradient is that of this step.

        Raises `ModelError` for a network that wants a picture beside the noise.
        """
        shape = (1, *picture.latent.shape)
        cond = {**text, **self._fixed, **_sizes(picture), "model_conds": {}}
        noise = torch.zeros(shape, device=self.device)  # asked for its shape alone
        made = comfy.samplers.encode_model_conds(
            self.model.extra_conds,
            [cond],
            noise,
            self.device,
            "positive",
            latent_image=noise,  # as in sampling; inpainting models put it beside the noise
        )
        conds = {
            name: value.process_cond(batch_size=1, area=None)
            for name, value in made[0]["model_conds"].items()
        }
        self._refuse_pictures(conds)
        return conds

    def remembered(self, picture: LatentPicture, text: Text) -> Conds:
        """The same each time, for text that does not train."""
        if id(picture) not in self._remembered:
            self._remembered[id(picture)] = (picture, self.of(picture, text))
        return self._remembered[id(picture)][1]

    def forget(self) -> None:
        self._remembered.clear()

    def _refuse_pictures(self, conds: Conds) -> None:
        found = [name for name in OF_A_PICTURE if name in conds]
        if found and not self.family.draws_beside_nothing:
            raise ModelError(
                f"This {self.family.name} model wants a picture or a mask beside the noise"
                f" ({', '.join(found)}): it edits, inpaints or animates pictures, which cannot be trained"
                " yet. Load a model that draws from text alone."
            )


def _sizes(picture: LatentPicture) -> dict[str, int]:
    """Under the names by which ComfyUI's SDXL asks for them."""
    framing = picture.framing
    if framing is None:
        size = (8 * picture.latent.shape[-1], 8 * picture.latent.shape[-2])
        framing = Framing(size, (0, 0), size)
    return {
        "width": framing.original[0],
        "height": framing.original[1],
        "crop_w": framing.crop[0],
        "crop_h": framing.crop[1],
        "target_width": framing.size[0],
        "target_height": framing.size[1],
    }


def groups(conds: Sequence[Conds], may_repeat: bool) -> list[list[int]]:
    """The places of a batch in groups, each of which the network computes at once.

    may_repeat: the network's result is the same when text is repeated, which holds for cross-attention alone.
    Then shorter captions join longer ones, repeated up to their length. Captions that would have to become
    longer than the longest (3 and 7 chunks: 21) are computed apart: the same result, for less.
    """
    found: list[list[int]] = []
    for place in sorted(range(len(conds)), key=lambda place: -_length(conds[place])):
        for group in found:
            if _fits(conds[group[0]], conds[place], may_repeat):
                group.append(place)
                break
        else:
            found.append([place])
    return [sorted(group) for group in found]


def joined(conds: Sequence[Conds]) -> dict[str, Any]:
    """One group's inputs for the network, in tensors that it may write into."""
    return comfy.samplers.cond_cat(list(conds))


def _fits(longest: Conds, other: Conds, may_repeat: bool) -> bool:
    times, rest = divmod(_length(longest), _length(other))
    return rest == 0 and (times == 1 or may_repeat) and comfy.samplers.cond_equal_size(longest, other)


def _length(conds: Conds) -> int:
    """Tokens of what is repeated to equal lengths."""
    lengths = [
        value.cond.shape[1] for value in conds.values() if isinstance(value, comfy.conds.CONDCrossAttn)
    ]
    return max(lengths, default=1)
