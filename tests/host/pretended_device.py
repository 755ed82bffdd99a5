"""A device other than the CPU, for machines that have none: its tensors lie in host memory and are computed
there, but apart.

It stands for a GPU. As with one, a tensor of the device and one of the CPU do not mix, autocast has a list of
operations for it, backward runs in a thread of its own, and whoever reads a number waits: `waits` counts
that. Not as with one: speed, memory, what CUDA's kernels give, and whatever asks whether a device is called
"cuda". torch's way to make a device in Python is private, and may change.
"""

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
MOVES = {"_to_copy", "copy_", "_foreach_copy_"}  # from one device to the other
TAKE_INDICES_OF_THE_CPU = {"index", "index_put_", "_index_put_impl_"}
IN_HALF = (
    "linear",
    "conv2d",
    "matmul",
    "bmm",
    "addmm",
    "baddbmm",
    "scaled_dot_product_attention",
)  # by autocast, as on CUDA
IN_FULL = ("layer_norm", "group_norm", "softmax.int", "mse_loss")


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
DEVICE = torch.device(NAME, 0)
waits = 0


class PretendedDevice(TorchDispatchMode):
    """Inside the block, tensors can be made on DEVICE and brought there."""

    def __enter__(self) -> "PretendedDevice":
        torch._C._set_only_lift_cpu_tensors(
            True
        )  # torch.tensor(..., device=DEVICE) makes it on the CPU and brings it there
        return super().__enter__()

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        return _computed(operation, arguments, named or {})


class _There(Tensor):
    """A tensor on DEVICE. `here` has its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> "_There":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        made = Tensor._make_wrapper_subclass(cls, here.size(), device=DEVICE, **layout)
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), named=None):
        return _computed(operation, arguments, named or {})

    @property
    def __class__(self) -> type:
        """That of every tensor of numbers, on whatever device it is."""
        return Tensor

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: Tensor) -> None:
        assert isinstance(other, _There) and (other.shape, other.dtype) == (self.shape, self.dtype)
        self.here = other.here

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.here.untyped_storage()

    def tolist(self) -> list:
        _count_wait()
        return self.here.tolist()


def _computed(operation, arguments, named):
    name = operation.__name__.split(".")[0]
    if name == "_has_compatible_shallow_copy_type":
        return False
    tensors = [leaf for leaf in tree_leaves((arguments, named)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, _There)]
    if there and name not in MOVES:
        _refuse_mixed(operation, name, arguments, tensors)
    wanted = named.get("device")
    if wanted is not None:
        named = named | {"device": "cpu"} | ({"pin_memory": False} if "pin_memory" in named else {})
    result = operation(*tree_map(_here, arguments), **tree_map(_here, named))
    if name == "copy_":
        if there and not isinstance(arguments[0], _There):
            _count_wait()
        return arguments[0]
    if name == "_local_scalar_dense":  # .item(), float(), bool()
        if there:
            _count_wait()
        return result
    goes_there = bool(there) if wanted is None else torch.device(wanted).type == NAME
    if goes_there:
        known = {id(tensor.here): tensor for tensor in there}  # of an operation in place
        return tree_map(lambda leaf: _put_there(leaf, known), result)
    if there and name == "_to_copy":
        _count_wait()
    return result


def _put_there(leaf, known: dict[int, _There]):
    if not isinstance(leaf, Tensor) or isinstance(leaf, _There):
        return leaf
    return known[id(leaf)] if id(leaf) in known else _There(leaf)


def _here(leaf):
    return leaf.here if isinstance(leaf, _There) else leaf


def _refuse_mixed(operation, name, arguments, tensors) -> None:
    if name.startswith("_foreach_"):  # each of the first list with its own of the others
        groups = list(
            zip(*(argument for argument in arguments if isinstance(argument, list | tuple)), strict=True)
        )
    else:
        groups = [tensors[:1] if name in TAKE_INDICES_OF_THE_CPU else tensors]
    for group in groups:
        of_some_size = [tensor for tensor in group if isinstance(tensor, Tensor) and tensor.dim()]
        if len({tensor.device for tensor in of_some_size}) > 1:
            found = ", ".join(f"{list(tensor.shape)} on {tensor.device}" for tensor in of_some_size)
            raise RuntimeError(f"Expected all tensors to be on the same device, got for {operation}: {found}")


def _count_wait() -> None:
    global waits
    waits += 1


# autocast ---------------------------------------------------------------------------------------------------

_every_operation = torch.library.Library("_", "IMPL")
_every_operation.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
_operations = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")
_WITHOUT_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)


def _autocast(name: str, dtype: torch.dtype | None) -> None:
    """`dtype` None: autocast's own."""
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def compute(*arguments, **named):
        to = dtype or torch.get_autocast_dtype(NAME)

        def cast(leaf):
            floats = isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.device.type == NAME
            return leaf.to(to) if floats else leaf

        with torch._C._ExcludeDispatchKeyGuard(_WITHOUT_AUTOCAST):
            return operation(*tree_map(cast, arguments), **tree_map(cast, named))

    _operations.impl(name, compute)


for _name in IN_HALF:
    _autocast(_name, None)
for _name in IN_FULL:
    _autocast(_name, torch.float32)
