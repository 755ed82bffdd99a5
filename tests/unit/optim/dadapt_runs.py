"""What tests of our D-Adaptation share: recorded gradients, and problems of any shape."""

import copy
import functools

import torch
from comfyui_dadapt_lora.trainer.optim.dadapt import DAdaptAdam, reference_optimizer
from comfyui_dadapt_lora.trainer.optim.flat_parameters import ALIGNMENT
from hypothesis import settings
from hypothesis import strategies as st
from torch.nn import Parameter

WARMUP = 60
RECIPE = dict(weight_decay=0.02)

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)


class ToyLoRA:
    """y = tanh(x (T + B1 A1)') (U + B2 A2)' with noisy targets.

    T is the "text encoder", U the "UNet"; both have a LoRA of dim 4.
    """

    def __init__(self, seed=0, dim=4, alpha=4, noise=0.3):
        self.random = torch.Generator().manual_seed(seed)
        self.scale = alpha / dim
        self.noise = noise
        self.base = [self.normal(24, 16) / 4, self.normal(20, 24) / 5]
        self.target = [w + 0.07 * self.normal(*w.shape) for w in self.base]
        down = [Parameter(self.normal(dim, w.shape[1]) / 4) for w in self.base]
        up = [Parameter(torch.zeros(w.shape[0], dim, dtype=torch.float64)) for w in self.base]
        self.parameters = [down[0], up[0], down[1], up[1]]

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.random, dtype=torch.float64)

    def merged(self):
        down_text, up_text, down_unet, up_unet = self.parameters
        return (
            self.base[0] + self.scale * up_text @ down_text,
            self.base[1] + self.scale * up_unet @ down_unet,
        )

    def loss(self):
        x = self.normal(8, 16)
        text, unet = self.merged()
        text_target, unet_target = self.target
        wanted = torch.tanh(x @ text_target.T) @ unet_target.T + self.noise * self.normal(8, 20)
        return (torch.tanh(x @ text.T) @ unet.T - wanted).square().mean()


def parts(parameters, text_scale=0.5):
    """The text encoder at half speed and the UNet, as the recipe has it."""
    return [
        {"params": parameters[:2], "layer_scale": text_scale},
        {"params": parameters[2:], "layer_scale": 1.0},
    ]


@functools.cache
def record(steps, missing=0.1, **options):
    """(start, tape): the parameters at the start; for every step a list of their gradients, some None."""
    toy = ToyLoRA()
    start = [p.detach().clone() for p in toy.parameters]
    optimizer = reference_optimizer(parts(toy.parameters), **options)
    tape = []
    for k in range(steps):
        gradients = list(torch.autograd.grad(toy.loss(), toy.parameters))
        for i in range(len(gradients)):
            if k and torch.rand((), generator=toy.random) < missing:
                gradients[i] = None
        tape.append(gradients)
        play(optimizer, gradients, k)
    return start, tape


def play(optimizer, gradients, k=WARMUP):
    """One step with these gradients, at the rate that warmup has at step k."""
    everything = (p for group in optimizer.param_groups for p in group["params"])
    for p, gradient in zip(everything, gradients, strict=True):
        p.grad = None if gradient is None else gradient.to(p.dtype, copy=True)
    for group in optimizer.param_groups:
        group["lr"] = min(1.0, (k + 1) / WARMUP)
    optimizer.step()


def parameters_like(start, dtype=torch.float64):
    return [Parameter(p.to(dtype, copy=True)) for p in start]


def pair(start, dtype=torch.float64, split=parts, ours=None, **options):
    """Our optimizer and dadaptation's, over copies of the same parameters."""
    mine = DAdaptAdam(split(parameters_like(start, dtype)), **options, **(ours or {}))
    return mine, reference_optimizer(split(parameters_like(start, dtype)), **options)


def values(optimizer):
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


def farthest(optimizer, other, start):
    """The largest difference between two runs' parameters over the largest distance travelled.

    Of all tensors the worst.
    """
    triples = zip(values(optimizer), values(other), start, strict=True)
    return max(((p - q).abs().max() / (q - p0).abs().max()).item() for p, q, p0 in triples)


def deep_state(optimizer):
    """Everything that a step could change, flattened for comparing bit by bit."""
    state = copy.deepcopy(optimizer.state_dict())
    state.pop("skipped_steps", None)
    state.pop("consecutive_skipped", None)
    return (
        values(optimizer)
        + [x for row in state["state"].values() for x in row.values()]
        + state["param_groups"]
    )


def same_bits(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(one, other, strict=True)
    )


def reference_d(optimizer):
    return optimizer.param_groups[0]["d"]


@st.composite
def problems(draw):
    """Groups of any shapes with their own settings, and how a few steps' gradients look."""
    shape = st.lists(st.integers(1, 7), max_size=3).map(tuple)
    group = st.fixed_dictionaries(
        {
            "shapes": st.lists(shape, min_size=1, max_size=4),
            "layer_scale": st.floats(0.01, 100),
            "weight_decay": st.sampled_from([0.0, 0.02]),
            "eps": st.sampled_from([1e-8, 1e-4]),
            "dtype": st.sampled_from([torch.float64, torch.float64, torch.float32]),
        }
    )
    options = st.fixed_dictionaries(
        {
            "betas": st.tuples(st.floats(0, 0.99), st.floats(0.01, 0.9999)),
            "use_bias_correction": st.booleans(),
            "d0": st.sampled_from([1e-8, 1e-6, 1e-3]),
            # Gradients here do not depend on p: without a limit d explodes.
            "growth_rate": st.sampled_from([1.0, 1.02, 1.5]),
        }
    )
    return {
        "groups": draw(st.lists(group, min_size=1, max_size=3)),
        "options": draw(options),
        "magnitude": 10.0 ** draw(st.integers(-12, 8)),
        "missing": draw(st.sampled_from([0.0, 0.0, 0.3, 0.9])),
        "block_size": draw(st.sampled_from([None, 40, ALIGNMENT])),
        "seed": draw(st.integers(0, 10**6)),
    }


def build(problem, make, **more):
    """An optimizer that `make` makes over the problem's groups, with random parameters."""
    random = torch.Generator().manual_seed(problem["seed"])
    groups = []
    for drawn in problem["groups"]:
        group = {name: drawn[name] for name in ("layer_scale", "weight_decay", "eps")}
        group["params"] = []
        for shape in drawn["shapes"]:
            start = torch.randn(shape, generator=random, dtype=torch.float64)
            group["params"].append(Parameter(start.to(drawn["dtype"])))
        groups.append(group)
    return make(groups, **problem["options"], **more)


def ours_for(problem, **more):
    return build(problem, DAdaptAdam, block_size=problem["block_size"], **more)


def steps_of(problem, count):
    """Gradients over ten orders of magnitude between tensors, some steps all zero, some gradients missing."""
    random = torch.Generator().manual_seed(problem["seed"] + 1)
    shapes = [shape for group in problem["groups"] for shape in group["shapes"]]
    for _ in range(count):
        there = torch.rand(len(shapes), generator=random) >= problem["missing"]
        zero = torch.rand((), generator=random) < 0.1
        scales = problem["magnitude"] * 10 ** (4 * torch.rand(len(shapes), generator=random) - 2)
        noise = [torch.randn(shape, generator=random, dtype=torch.float64) * (not zero) for shape in shapes]
        yield [scale * x if here else None for scale, x, here in zip(scales, noise, there, strict=True)]


def a_group(dtype=torch.float32, **options):
    return {"params": [Parameter(torch.ones(3, dtype=dtype))], **options}
