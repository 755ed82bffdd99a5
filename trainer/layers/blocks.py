"""The blocks that a network is made of, found by its shape and not by its family.

ComfyUI's networks keep their repeated blocks in `nn.ModuleList`s. A block is an element of an outermost list.
Where that is a sequence, as in the UNets of SD 1.5 and SDXL, or a list, as in Stable Cascade's, it is an
element of the sequence or list: nobody calls a list.
"""

from collections.abc import Iterator

from torch import nn

from .adaptable import is_adaptable


def blocks_of(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks by name: what gradient checkpointing takes one by one."""
    return dict(_blocks(network, ""))


def layers_inside(blocks: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The layers by name that a LoRA can adapt inside the blocks; a block that is one layer has none."""
    return {
        f"{block}.{name}": module
        for block, owner in blocks.items()
        for name, module in owner.named_modules()
        if name and is_adaptable(module)
    }


def _blocks(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}" if name else child_name
        if isinstance(child, nn.ModuleList):
            yield from _elements(child, path)
        elif _is_sequence_of_blocks(child):
            yield from _elements(nn.ModuleList([child]), path, named=False)
        else:
            yield from _blocks(child, path)


def _elements(blocks: nn.ModuleList, path: str, named: bool = True) -> Iterator[tuple[str, nn.Module]]:
    for name, block in blocks.named_children():
        of_block = f"{path}.{name}" if named else path
        if isinstance(block, nn.ModuleList):
            yield from _elements(block, of_block)
        elif isinstance(block, nn.Sequential):
            yield from ((f"{of_block}.{part}", inner) for part, inner in block.named_children())
        else:
            yield of_block, block


def _is_sequence_of_blocks(module: nn.Module) -> bool:
    """A sequence of a class of its own, as a UNet's middle block; a plain one is a small stack of layers."""
    return isinstance(module, nn.Sequential) and type(module) is not nn.Sequential
