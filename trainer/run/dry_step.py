"""One small step before a run: whether gradients go through the network, and what memory a step takes.

Its first pass is computed without gradient checkpointing, which hides what a network writes over, and
without saved-tensor hooks, under which PyTorch does not look for that. It leaves nothing behind.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..adapters.lora import LoraAdapter, layers_by_part
from ..data.latents import LatentPicture, pixels_of
from ..errors import ModelError
from ..objective.loss import losses
from ..parts import is_text_encoder, label_of
from ..seeds import noise_of_step, stream
from .activations import Activations, PerPicture, bytes_of_pass
from .memory import is_out_of_memory
from .step import not_finite_advice
from .work import Work

# Height and width of the latents, smaller and larger. PixArt takes none of 32 and below.
SIZES = (((16, 16), (32, 32)), ((32, 64), (64, 64)))
MIDDLE = 0.5  # noise level
NAMED = 3  # layers
UP = 0.01  # deviation of the values that stand in for an `up` of zeros

# What PyTorch says of tensors that are written over, and of operations without a gradient.
WRITTEN_OVER = ("modified by an inplace operation", "modified inplace", "in-place operation")
NO_GRADIENT = (
    "derivative for",
    "autograd formula",
    "an autograd kernel was not registered",
    "automatic differentiation",
    "does not require grad",
    "Inference tensors cannot be saved",
)


@dataclass(frozen=True)
class Tried:
    """What a dry step found."""

    without_gradient: tuple[LoraAdapter, ...] = ()
    finite: bool = True
    activations: Activations | None = None  # None: not known


def try_step(work: Work, blocks: Sequence[nn.Module], model: str) -> Tried:
    """Tries a step of one picture, as small as the network takes it, with the longest caption.

    blocks: that gradient checkpointing would take. model: its name. Raises `ModelError` for a network that
    cannot be trained through.
    """
    try:
        with _ups_that_are_not_zero(work.adapters), _errors_for_missing_kernels():
            return _tried(work, blocks)
    except Exception as error:
        if why := _why_no_gradient(error):
            raise ModelError(
                f"{model} cannot be trained by this version of the pack: {why}. Nothing was trained. PyTorch"
                f" says: {str(error).splitlines()[0]}"
            ) from error
        raise
    finally:
        _drop_gradients(work)
        work.free_memory()


def notices(tried: Tried, work: Work) -> Iterator[str]:
    """What a person should hear of it before the first step."""
    if not tried.finite:
        yield (
            "a small step before the run gave numbers that are not finite."
            f" {not_finite_advice(work.precision)}"
        )
    every = layers_by_part(work.adapters)
    for part, count in layers_by_part(tried.without_gradient).items():
        stays = f"{count} of {every[part]} layers of the {label_of(part)}"
        if is_text_encoder(part):
            yield f"{stays} take no part in this model, and stay zero in the LoRA"
            continue
        names = [adapter.name for adapter in tried.without_gradient if adapter.part == part]
        yield (
            f"{stays} get no gradient, and stay zero in the LoRA, where they change nothing:"
            f" {', '.join(names[:NAMED])}{f' and {count - NAMED} more' if count > NAMED else ''}"
        )


def _tried(work: Work, blocks: Sequence[nn.Module]) -> Tried:
    candidates = list(_pictures(work.pictures))
    for pictures in candidates:
        try:
            tried = _of_backward(work, pictures[0])
            return replace(tried, activations=_measured(work, blocks, pictures))
        except Exception as error:
            if is_out_of_memory(error):
                return Tried()  # the run may do with less: it computes in checkpoints where it has to
            if pictures is candidates[-1] or _why_no_gradient(error):
                raise
    raise AssertionError("there is always a real size")


def _pictures(pictures: Sequence[LatentPicture]) -> Iterator[list[LatentPicture]]:
    """Pictures of two sizes, or of one, to try a step with: the cheapest first, a real size last."""
    caption = max((picture.caption for picture in pictures), key=len)
    largest, smallest = (replace(of(pictures, key=pixels_of), caption=caption) for of in (max, min))
    for sizes in SIZES:
        cropped = [_cropped(largest, *size) for size in sizes]
        yield cropped if pixels_of(cropped[0]) < pixels_of(cropped[1]) else cropped[:1]
    yield [smallest]


def _cropped(picture: LatentPicture, height: int, width: int) -> LatentPicture:
    return replace(picture, latent=picture.latent[..., :height, :width].contiguous())


def _of_backward(work: Work, picture: LatentPicture) -> Tried:
    """What a forward and backward pass shows. It leaves its gradients."""
    _drop_gradients(work)
    scale = work.precision.loss_scale().value
    loss = _loss(work, picture)
    (loss * scale).backward()
    gradients = [
        p.grad for adapter in work.adapters for p in (adapter.down, adapter.up) if p.grad is not None
    ]
    # under a loss scale gradients may overflow, which it is there to find out
    checked = [loss, *(gradients if scale == 1 else [])]
    return Tried(
        without_gradient=tuple(adapter for adapter in work.adapters if not _gets_gradient(adapter)),
        finite=all(bool(number.isfinite().all()) for number in checked),
    )


def _drop_gradients(work: Work) -> None:
    for adapter in work.adapters:
        adapter.down.grad = adapter.up.grad = None


def _gets_gradient(adapter: LoraAdapter) -> bool:
    return any(p.grad is not None and bool(p.grad.any()) for p in (adapter.down, adapter.up))


def _loss(work: Work, picture: LatentPicture) -> Tensor:
    """Of one picture, 0-dim. The noise is no one else's."""
    network = work.network
    latents = picture.latent[None].to(network.device)
    noise = noise_of_step(work.run.seed, 0, latents.shape, network.device, "dry step")
    levels = network.levels(torch.tensor([MIDDLE], dtype=torch.float64))
    with work.precision.autocast():
        return losses(network, [picture], latents, noise, levels).mean()


def _measured(
    work: Work, blocks: Sequence[nn.Module], pictures: Sequence[LatentPicture]
) -> Activations | None:
    """None where memory is too short for it. There has been a pass, so that what stays in memory is there."""
    device = work.network.device
    try:
        passes = [bytes_of_pass(device, blocks, partial(_loss, work, picture)) for picture in pictures]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
    sizes = list(map(pixels_of, pictures))
    plain, checkpointed = (
        PerPicture.through(list(zip(sizes, taken, strict=True))) for taken in zip(*passes, strict=True)
    )
    return Activations(plain, checkpointed)


@contextmanager
def _ups_that_are_not_zero(adapters: Sequence[LoraAdapter]) -> Iterator[None]:
    """Gradients reach `down` inside the block, and the values of `up` are its own again after it.

    What stands in for them is one column, repeated: it takes next to no memory.
    """
    originals = [adapter.up.data for adapter in adapters]
    generator = stream("dry step")
    try:
        for adapter in adapters:
            column = UP * torch.randn(adapter.up.shape[0], generator=generator)
            column = column.to(adapter.up.device).view(-1, *[1] * (adapter.up.dim() - 1))
            adapter.up.data = column.expand(adapter.up.shape)
        yield
    finally:
        for adapter, original in zip(adapters, originals, strict=True):
            adapter.up.data = original


@contextmanager
def _errors_for_missing_kernels() -> Iterator[None]:
    """PyTorch only warns where gradients do not go through an operation, and are wrong."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*an autograd kernel was not registered")
        yield


def _why_no_gradient(error: Exception) -> str | None:
    """None for an error of another kind."""
    said = str(error)
    if any(words in said for words in WRITTEN_OVER):
        return "its network writes over numbers that a backward pass needs"
    if any(words in said for words in NO_GRADIENT):
        return "its network computes something that has no gradient"
    return None
