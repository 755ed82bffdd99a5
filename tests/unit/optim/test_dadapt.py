"""`trainer/optim/dadapt.py` computes what dadaptation 3.2 from PyPI computes, which is the second opinion."""

import copy
import functools
import gc
import io
import itertools
import math
import weakref

import pytest
import torch
from comfyui_dadapt_lora.trainer.errors import SettingError, TrainerError
from comfyui_dadapt_lora.trainer.optim import dadapt_math
from comfyui_dadapt_lora.trainer.optim.dadapt import DAdaptAdam, reference_optimizer
from comfyui_dadapt_lora.trainer.optim.flat_parameters import ALIGNMENT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import Parameter

WARMUP = 60
RECIPE = dict(weight_decay=0.02)

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)


# a fixed sequence of gradients: recorded from a small two-part LoRA that dadaptation trains in fp64 ---------


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


# the same numbers as dadaptation ----------------------------------------------------------------------------

# dtype: (d, parameters against the way they went); reached: 2e-15 for both in fp64, 2e-7 and 1e-6 in fp32
TOLERANCES = {
    torch.float64: (1e-10, 1e-10),
    torch.float32: (1e-4, 1e-4),
}


@pytest.mark.parametrize("block_size", [None, 3 * ALIGNMENT], ids=["whole", "blocks"])
@pytest.mark.parametrize(
    "options", [{}, {"use_bias_correction": True}, {"growth_rate": 1.02}, {"betas": (0.8, 0.99)}], ids=str
)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_same_d_and_parameters_as_dadaptation_over_600_steps(dtype, options, block_size):
    """Two groups with a layer_scale, decay, warmup, a tenth of the gradients missing."""
    start, tape = record(600, **RECIPE, **options)
    ours, reference = pair(start, dtype, ours={"block_size": block_size}, **RECIPE, **options)
    d_tolerance, p_tolerance = TOLERANCES[dtype]
    for k, gradients in enumerate(tape):
        play(ours, gradients, k)
        play(reference, gradients, k)
        assert ours.d == pytest.approx(reference_d(reference), rel=d_tolerance)
    assert ours.d > 1e3 * 1e-6  # d has grown: there was something to get wrong
    assert farthest(ours, reference, start) < p_tolerance
    numerator = ours.state_dict()["param_groups"][0]["numerator_weighted"]
    assert numerator == pytest.approx(reference.param_groups[0]["numerator_weighted"], rel=10 * d_tolerance)


def test_same_numbers_on_a_device_that_has_no_fused_kernel(monkeypatch):
    """There is none such here: the CPU goes the way that it would go."""
    monkeypatch.setattr(dadapt_math, "FUSED_ON", ())
    start, tape = record(600, **RECIPE)
    ours, reference = pair(start, **RECIPE)
    for k, gradients in enumerate(tape):
        play(ours, gradients, k)
        play(reference, gradients, k)
    assert ours.d == pytest.approx(reference_d(reference), rel=1e-10)
    assert farthest(ours, reference, start) < 1e-10


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


@quick
@given(problems())
def test_any_problem_gives_dadaptations_d_and_parameters(problem):
    ours = ours_for(problem)
    reference = build(problem, reference_optimizer)
    exact = all(group["dtype"] == torch.float64 for group in problem["groups"])
    for gradients in steps_of(problem, 15):
        play(ours, gradients)
        play(reference, gradients)
        assert ours.d == pytest.approx(reference_d(reference), rel=1e-10 if exact else 1e-4)
    for p, q in zip(values(ours), values(reference), strict=True):
        scale = max(1.0, q.abs().max().item())
        assert torch.allclose(p, q, rtol=0, atol=scale * (1e-10 if exact else 1e-4))


def test_the_same_run_twice_gives_the_same_bits():
    start, tape = record(100, **RECIPE)
    runs = [DAdaptAdam(parts(parameters_like(start, torch.float32)), **RECIPE) for _ in range(2)]
    for (k, gradients), run in itertools.product(enumerate(tape), runs):
        play(run, gradients, k)
    assert same_bits(deep_state(runs[0]), deep_state(runs[1]))


def test_s_in_bf16_keeps_d_within_a_percent():
    start, tape = record(600, **RECIPE)
    full, half = (
        DAdaptAdam(parts(parameters_like(start, torch.float32)), s_dtype=s, **RECIPE)
        for s in (None, torch.bfloat16)
    )
    for k, gradients in enumerate(tape):
        play(full, gradients, k)
        play(half, gradients, k)
        assert half.d == pytest.approx(full.d, rel=0.01)
    assert half.d != full.d


def test_rate_zero_does_nothing_at_all():
    """Warmup that starts at 0: no step is counted and no state is made, as in dadaptation."""
    start, tape = record(3)
    ours, reference = pair(start)
    before = deep_state(ours)
    for optimizer in (ours, reference):
        play(optimizer, tape[0], k=-1)
        assert optimizer.param_groups[0]["k"] == 0
    assert [group.pop("lr") for group in before[-2:]] == [1.0, 1.0]
    assert same_bits(before[:-2], deep_state(ours)[:-2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rate_near_zero_is_zero(dtype):
    """The first moment is divided by it on the way."""
    start, tape = record(3)
    ours, _ = pair(start, dtype)
    play(ours, tape[0])
    before = deep_state(ours)
    for p, gradient in zip((p for group in ours.param_groups for p in group["params"]), tape[1], strict=True):
        p.grad = None if gradient is None else gradient.to(dtype)
    for group in ours.param_groups:
        group["lr"] = 1e-35
    ours.step()
    after = deep_state(ours)
    assert all(
        was.pop("lr") > is_now.pop("lr") == 1e-35 for was, is_now in zip(before[-2:], after[-2:], strict=True)
    )
    assert same_bits(before, after)


def test_a_scheduler_drives_the_rate():
    start, tape = record(20)
    ours, reference = pair(start)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda k: (k + 1) / WARMUP) for o in (ours, reference)]
    for gradients in tape:
        for optimizer, scheduler in zip((ours, reference), schedulers, strict=True):
            for p, gradient in zip(
                (p for g in optimizer.param_groups for p in g["params"]), gradients, strict=True
            ):
                p.grad = None if gradient is None else gradient.clone()
            optimizer.step()
            scheduler.step()
    assert ours.d == pytest.approx(reference_d(reference), rel=1e-10)


# layer_scale ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.5, 3.0, 16.0])
def test_layer_scale_is_dadaptation_on_rescaled_parameters(r):
    """p with layer_scale r moves as r * q does, where dadaptation trains q = p / r without a scale.

    The gradient of q is r * g, and its eps r * eps.
    """
    start, tape = record(400, missing=0, **RECIPE)
    ours = DAdaptAdam(parts(parameters_like(start), text_scale=r), **RECIPE)
    rescaled = [p / r for p in start[:2]] + start[2:]
    q = parameters_like(rescaled)
    reference = reference_optimizer([{"params": q[:2], "eps": r * 1e-8}, {"params": q[2:]}], **RECIPE)
    for k, gradients in enumerate(tape):
        play(ours, gradients, k)
        play(reference, [r * g for g in gradients[:2]] + gradients[2:], k)
        assert ours.d == pytest.approx(reference_d(reference), rel=1e-12)
    for i, (p, q) in enumerate(zip(values(ours), values(reference), strict=True)):
        assert torch.allclose(p, q * (r if i < 2 else 1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("dim", "alpha"), [(4, 1), (8, 1), (6, 5)])
def test_layer_scale_dim_over_alpha_on_the_up_matrices_makes_alpha_neutral(dim, alpha):
    """Losses, d and merged weights of a run with alpha are those of a run with alpha = dim.

    Without the scale they are not.
    """

    def train(alpha, up_scale):
        toy = ToyLoRA(dim=dim, alpha=alpha)
        down = toy.parameters[::2]
        up = toy.parameters[1::2]
        optimizer = DAdaptAdam(
            [{"params": down}, {"params": up, "layer_scale": up_scale, "eps": 1e-8 / up_scale}], **RECIPE
        )
        losses = []
        for k in range(300):
            loss = toy.loss()
            play(optimizer, torch.autograd.grad(loss, down + up), k)
            losses.append(loss.item())
        return optimizer.d, losses, [w.detach() for w in toy.merged()]

    d, losses, merged = train(dim, 1.0)
    scaled_d, scaled_losses, scaled_merged = train(alpha, dim / alpha)
    assert scaled_d == pytest.approx(d, rel=1e-12)
    assert scaled_losses == pytest.approx(losses, rel=1e-12)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(scaled_merged, merged, strict=True))
    assert abs(train(alpha, 1.0)[0] / d - 1) > 0.05


def test_layer_scale_half_is_half_the_speed_at_equal_gradients_under_one_d():
    start = [torch.zeros(30, dtype=torch.float64), torch.zeros(30, dtype=torch.float64)]
    text, unet = parameters_like(start)
    optimizer = DAdaptAdam([{"params": [text], "layer_scale": 0.5}, {"params": [unet]}])
    random = torch.Generator().manual_seed(0)
    for k in range(100):
        gradient = torch.randn(30, generator=random, dtype=torch.float64) + torch.linspace(
            -1, 1, 30, dtype=torch.float64
        )
        play(optimizer, [gradient, gradient], k)
    assert torch.allclose(text / unet, torch.full_like(unet, 0.5), rtol=0, atol=1e-5)
    assert optimizer.param_groups[0]["d"] == optimizer.param_groups[1]["d"] > 1e-6


# gradients: in place, missing, from elsewhere, broken -------------------------------------------------------


def test_autograd_adds_into_the_flat_gradient_without_a_copy():
    toy = ToyLoRA()
    optimizer = DAdaptAdam(parts(toy.parameters))
    toy.loss().backward()
    optimizer.step()
    views = [p.grad for p in toy.parameters]
    addresses = [view.data_ptr() for view in views]
    optimizer.zero_grad()
    assert all(not view.any() for view in views)
    toy.loss().backward()
    assert all(p.grad is view and view.any() for p, view in zip(toy.parameters, views, strict=True))
    assert [p.grad.data_ptr() for p in toy.parameters] == addresses
    assert len({view.untyped_storage().data_ptr() for view in views[:2]}) == 1


@pytest.mark.parametrize("set_to_none", [False, True])
def test_a_training_loop_runs_as_with_dadaptation(set_to_none):
    toys = ToyLoRA(), ToyLoRA()
    ours = DAdaptAdam(parts(toys[0].parameters), **RECIPE)
    reference = reference_optimizer(parts(toys[1].parameters), **RECIPE)
    for _ in range(200):
        losses = [toy.loss() for toy in toys]
        for loss, optimizer in zip(losses, (ours, reference), strict=True):
            (loss / 2).backward()
            (loss.detach() * 0 + toys[optimizer is reference].loss() / 2).backward()  # gradients accumulate
            optimizer.step()
        ours.zero_grad(set_to_none=set_to_none)
        reference.zero_grad()
    assert ours.d == pytest.approx(reference_d(reference), rel=1e-9)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-9)


def test_a_parameter_without_a_gradient_keeps_every_bit():
    """Value and state of the missing ones: no decay, no decaying moments. The others move."""
    start, tape = record(20, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start, torch.float32)), **RECIPE)
    for gradients in tape[:10]:
        play(ours, gradients)
    before = values(ours)
    state = copy.deepcopy(ours.state_dict()["state"])
    for down_text, _, down_unet, up_unet in tape[10:]:
        play(ours, [down_text, None, down_unet, up_unet])
    after = values(ours)
    state_after = ours.state_dict()["state"]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, False, False]
    assert all(torch.equal(state[1][name], state_after[1][name]) for name in ("s", "exp_avg", "exp_avg_sq"))


def test_without_any_gradient_a_step_is_nothing():
    start, tape = record(3, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)))
    play(ours, tape[0])
    before = deep_state(ours)
    play(ours, [None] * 4)
    assert same_bits(before, deep_state(ours))


def test_gradient_norm_is_that_of_all_groups():
    start, tape = record(1, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)), block_size=ALIGNMENT)
    play(ours, tape[0])
    assert ours.gradient_norm == pytest.approx(
        torch.cat([g.flatten() for g in tape[0]]).norm().item(), rel=1e-12
    )


BROKEN = [math.nan, math.inf, -math.inf, 1e25]  # the last one has no square in fp32


@pytest.mark.parametrize("bad", BROKEN)
@pytest.mark.parametrize("s_dtype", [None, torch.bfloat16], ids=str)
def test_a_broken_gradient_changes_no_bit_and_is_counted(bad, s_dtype):
    """... and the run goes on as if the step had never been."""
    start, tape = record(40, missing=0, **RECIPE)
    struck, spared = (
        DAdaptAdam(parts(parameters_like(start, torch.float32)), s_dtype=s_dtype, **RECIPE) for _ in range(2)
    )
    for k, gradients in enumerate(tape):
        if k >= 20:
            before = deep_state(struck)
            broken = [g.clone() for g in gradients]
            broken[k % 4].view(-1)[k] = bad
            play(struck, broken, k)
            for group in before[-2:]:
                group["lr"] = struck.param_groups[0]["lr"]
            assert same_bits(before, deep_state(struck))
            assert (struck.skipped_steps, struck.consecutive_skipped) == (k - 19, 1)
            assert not struck.gradient_norm < 1e19
        for optimizer in (struck, spared):
            play(optimizer, gradients, k)
        assert struck.consecutive_skipped == 0
    assert same_bits(deep_state(struck), deep_state(spared))


def test_broken_steps_in_a_row_are_counted_in_a_row():
    start, tape = record(1, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)))
    for count in (1, 2, 3):
        play(ours, [g * math.nan for g in tape[0]])
        assert (ours.skipped_steps, ours.consecutive_skipped) == (count, count)


@quick
@given(problems(), st.sampled_from(BROKEN[:3]), st.integers(0, 9), st.floats(0, 1), st.floats(0, 1))
def test_one_broken_value_anywhere_is_as_if_the_step_had_not_been(problem, bad, when, which, where):
    struck = ours_for(problem)
    spared = ours_for(problem)
    for k, gradients in enumerate(steps_of(problem, 10)):
        for optimizer in (struck, spared):
            play(optimizer, gradients)
        present = [i for i, g in enumerate(gradients) if g is not None]
        if k == when and present:
            broken = [None if g is None else g.clone() for g in gradients]
            victim = broken[present[int(which * (len(present) - 1))]].view(-1)
            victim[int(where * (len(victim) - 1))] = bad
            play(struck, broken)
            assert struck.consecutive_skipped == 1
    assert same_bits(deep_state(struck), deep_state(spared))


def test_a_d_that_explodes_stops_growing_before_it_breaks_anything():
    """The same gradient for ever: d grows without end. dadaptation raises from the middle of a step here."""
    ours = DAdaptAdam([a_group()])
    for _ in range(400):
        play(ours, [torch.ones(3)])
    assert ours.consecutive_skipped > 100
    assert all(torch.isfinite(x).all() for x in deep_state(ours) if isinstance(x, torch.Tensor))


def test_zero_grad_also_reaches_a_gradient_from_elsewhere():
    start, tape = record(2, missing=0)
    parameters = parameters_like(start)
    ours = DAdaptAdam([{"params": parameters}])
    play(ours, tape[0])
    parameters[0].grad = torch.ones_like(parameters[0])
    parameters[1].grad = None
    ours.zero_grad()
    assert [p.grad is None for p in parameters] == [False, True, False, False]
    assert not any(p.grad.any() for p in parameters if p.grad is not None)


def test_a_parameter_that_was_moved_away_is_an_error_not_a_standstill():
    layer = torch.nn.Linear(4, 3).double()
    ours = DAdaptAdam(layer.parameters())
    layer.weight.data = layer.weight.data.clone()
    layer(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
    with pytest.raises(TrainerError, match="no longer lies where the optimizer put it"):
        ours.step()


# during a run: stop a part, freeze d, cap d -----------------------------------------------------------------


def test_a_stopped_part_moves_by_exactly_zero_and_counts_for_d_as_zero_gradients():
    """At every step d is, to 1e-10, that of dadaptation with gradients of zero for the part from then on."""
    start, tape = record(200, missing=0, **RECIPE)
    ours, reference = pair(start, **RECIPE)
    for k, gradients in enumerate(tape):
        if k == 25:
            ours.stop_group(0)
            stopped = values(ours)[:2]
        play(ours, gradients, k)
        play(reference, gradients if k < 25 else [0 * gradients[0], 0 * gradients[1], *gradients[2:]], k)
        assert ours.d == pytest.approx(reference_d(reference), rel=1e-10)
    assert ours.d > 100 * 1e-6
    assert all(torch.equal(p, q) for p, q in zip(values(ours)[:2], stopped, strict=True))
    assert all(torch.equal(p, q) is False for p, q in zip(values(ours)[2:], start[2:], strict=True))
    assert not ours.state_dict()["state"].keys() & {0, 1}


def test_d_does_not_jump_when_the_noisier_part_stops():
    """d goes where it would have gone if the part had gone on.

    The other part's own estimate, which the sums would give at once, is half as high again.
    """
    random = torch.Generator().manual_seed(0)
    start = [torch.zeros(400, dtype=torch.float64), torch.zeros(400, dtype=torch.float64)]
    stopped, trained = (DAdaptAdam([{"params": [p]} for p in parameters_like(start)]) for _ in range(2))
    for k in range(31):
        noise, signal = torch.randn(2, 400, generator=random, dtype=torch.float64)
        if k == 30:
            stopped.stop_group(0)
        play(stopped, [30 * noise if k < 30 else None, 1 + signal])
        play(trained, [30 * noise, 1 + signal])
    own_estimate = trained.param_groups[1]["nw"] / ((1 - math.sqrt(0.999)) * trained._s_l1(1))
    assert own_estimate > 1.5 * trained.d
    assert stopped.d == pytest.approx(trained.d, rel=0.02)


def test_gradients_of_a_stopped_part_are_dropped_and_the_rest_may_stop_too():
    toy = ToyLoRA()
    ours = DAdaptAdam(parts(toy.parameters), **RECIPE)
    for _ in range(5):
        ours.zero_grad()
        toy.loss().backward()
        ours.step()
    ours.stop_group(0)
    toy.loss().backward()
    ours.zero_grad()
    assert [p.grad is None for p in toy.parameters] == [True, True, False, False]
    ours.stop_group(1)
    before = values(ours)
    toy.loss().backward()
    ours.step()
    assert same_bits(before, values(ours))


def test_frozen_d_is_dadaptation_at_growth_rate_one():
    start, tape = record(120, **RECIPE)
    ours, reference = pair(start, **RECIPE)
    for k, gradients in enumerate(tape):
        if k == 60:
            d = ours.d
            ours.freeze_d()
            reference.param_groups[0]["growth_rate"] = 1.0
        play(ours, gradients, k)
        play(reference, gradients, k)
    assert ours.d == d > 10 * 1e-6
    assert farthest(ours, reference, start) < 1e-10


def test_the_cap_holds_and_below_it_nothing_changes():
    start, tape = record(120, missing=0, **RECIPE)
    free, capped = (
        DAdaptAdam(parts(parameters_like(start)), d_cap=cap, **RECIPE) for cap in (math.inf, 1e-3)
    )
    reached = 0
    for k, gradients in enumerate(tape):
        play(free, gradients, k)
        play(capped, gradients, k)
        reached += capped.d == 1e-3
        assert capped.d <= 1e-3
        assert reached or capped.d == free.d
    assert free.d > 2e-3 and reached > 10
    capped.d_cap = 1e-4
    assert capped.d == 1e-4
    play(capped, tape[-1])
    assert capped.d == 1e-4
    capped.d_cap = 5e-4
    assert capped.d == 1e-4


def test_a_cap_below_d_shrinks_what_the_momentum_still_does():
    """m is linear in d: with gradients of zero, the capped run moves a quarter as far, the same way."""
    start, tape = record(60, missing=0, **RECIPE)
    free, capped = (DAdaptAdam(parts(parameters_like(start)), weight_decay=0.0) for _ in range(2))
    for k, gradients in enumerate(tape):
        play(free, gradients, k)
        play(capped, gradients, k)
    capped.d_cap = free.d / 4
    before = values(free)
    for optimizer in (free, capped):
        play(optimizer, [torch.zeros_like(gradient) for gradient in tape[-1]])
    for was, far, near in zip(before, values(free), values(capped), strict=True):
        assert torch.allclose((near - was) * 4, far - was, rtol=1e-9, atol=0)


def test_state_takes_12_bytes_per_value_10_with_bf16_s_and_8_with_frozen_d():
    def bytes_per_value(**options):
        optimizer = DAdaptAdam([{"params": [Parameter(torch.ones(32, 10 * ALIGNMENT))]}], **options)
        tensors = [
            x
            for row in optimizer.state_dict()["state"].values()
            for x in row.values()
            if isinstance(x, torch.Tensor)
        ]
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
        optimizer.freeze_d()
        left = optimizer.state_dict()["state"][0]
        storages_left = [x.untyped_storage().nbytes() for x in left.values() if isinstance(x, torch.Tensor)]
        return sum(storages.values()) / (320 * ALIGNMENT), sum(storages_left) / (320 * ALIGNMENT)

    assert bytes_per_value() == (12, 8)
    assert bytes_per_value(s_dtype=torch.bfloat16) == (10, 8)


# resuming, and dadaptation's own states ---------------------------------------------------------------------


def through_a_file(state):
    """A state as a resumed run gets it: saved, and loaded with only tensors and plain values allowed."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(optimizer, split, make=DAdaptAdam, **options):
    """A new optimizer over copies of the parameters, with the state and nothing else carried over."""
    fresh = make(
        split(parameters_like(values(optimizer), optimizer.param_groups[0]["params"][0].dtype)), **options
    )
    fresh.load_state_dict(through_a_file(optimizer.state_dict()))
    return fresh


CHANGES = {
    "nothing": lambda optimizer: None,
    "stop": lambda optimizer: optimizer.stop_group(0),
    "freeze": lambda optimizer: optimizer.freeze_d(),
    "cap": lambda optimizer: setattr(optimizer, "d_cap", 1e-4),
}


@pytest.mark.parametrize("s_dtype", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_resumes_to_the_bit(change, s_dtype):
    options = dict(s_dtype=s_dtype, use_bias_correction=True, **RECIPE)
    start, tape = record(60, **RECIPE, use_bias_correction=True)
    through = DAdaptAdam(parts(parameters_like(start, torch.float32)), **options)
    for k, gradients in enumerate(tape):
        if k == 20:
            play(through, [g if g is None else g * math.nan for g in tape[0]], k)
            CHANGES[change](through)
        if k == 30:
            other = resumed(through, parts, s_dtype=s_dtype)  # all other settings come with the state
            assert other.skipped_steps == 1
        play(through, gradients, k)
        if k >= 30:
            play(other, gradients, k)
    assert same_bits(deep_state(through), deep_state(other))
    assert through.d > 1e-6


def test_a_saved_state_brings_a_run_back_to_before_a_part_stopped():
    """A run that burnt does this: in the same optimizer it writes parameters back and loads the state."""
    start, tape = record(40, missing=0, **RECIPE)
    ours = DAdaptAdam(parts(parameters_like(start)), **RECIPE)
    for k, gradients in enumerate(tape[:20]):
        play(ours, gradients, k)
    saved = values(ours)
    saved_state = copy.deepcopy(ours.state_dict())
    ends = []
    for _ in range(2):
        for k, gradients in enumerate(tape[20:], 20):
            play(ours, gradients, k)
        ends.append(deep_state(ours))
        ours.stop_group(0)
        ours.freeze_d()
        ours.load_state_dict(saved_state)
        parameters = [p for group in ours.param_groups for p in group["params"]]
        with torch.no_grad():
            for p, value in zip(parameters, saved, strict=True):
                p.copy_(value)
    assert same_bits(*ends)


@quick
@given(problems(), st.integers(0, 9), st.sampled_from(list(CHANGES)))
def test_any_run_resumes_to_the_bit_from_any_step(problem, when, change):
    through = ours_for(problem)
    for k, gradients in enumerate(steps_of(problem, 10)):
        if k == when:
            CHANGES[change](through)
            other = ours_for(problem)
            other.load_state_dict(through_a_file(through.state_dict()))
            with torch.no_grad():
                for p, q in zip(
                    *([p for g in o.param_groups for p in g["params"]] for o in (other, through)), strict=True
                ):
                    p.copy_(q)
        play(through, gradients)
        if k >= when:
            play(other, gradients)
    assert same_bits(deep_state(through), deep_state(other))


@pytest.mark.parametrize("options", [{}, {"use_bias_correction": True}], ids=str)
def test_the_state_goes_to_dadaptation_and_back(options):
    """A run that changes hands every 15 steps stays on the path of one that dadaptation makes alone."""
    start, tape = record(90, **RECIPE, **options)
    alone = reference_optimizer(parts(parameters_like(start)), **RECIPE, **options)
    relay = DAdaptAdam(parts(parameters_like(start)), **RECIPE, **options)
    for k, gradients in enumerate(tape):
        if k and k % 15 == 0:
            relay = resumed(relay, parts, [DAdaptAdam, reference_optimizer][k // 15 % 2])
        play(alone, gradients, k)
        play(relay, gradients, k)
        assert reference_d(relay) == pytest.approx(reference_d(alone), rel=1e-10)
    assert reference_d(alone) > 1e-4
    assert farthest(relay, alone, start) < 1e-10


def test_a_part_can_stop_in_a_run_that_dadaptation_began():
    """Its share of dadaptation's one numerator is unknown; the one assumed leaves d where it is."""
    start, tape = record(60, missing=0, **RECIPE)
    reference = reference_optimizer(parts(parameters_like(start)), **RECIPE)
    for k, gradients in enumerate(tape[:50]):
        play(reference, gradients, k)
    ours = resumed(reference, parts)
    total = reference.param_groups[0]["numerator_weighted"]
    assert sum(group["nw"] for group in ours.param_groups) == pytest.approx(total, rel=1e-12)
    ours.stop_group(0)
    play(ours, tape[50])
    assert ours.d == pytest.approx(reference_d(reference), rel=0.05)


# memory -----------------------------------------------------------------------------------------------------


def test_parameters_of_a_group_share_one_tensor_and_keep_their_values_and_shapes():
    start, _ = record(1)
    parameters = parameters_like(start)
    DAdaptAdam([{"params": parameters}])
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == 1
    assert same_bits([p.detach() for p in parameters], start)
    assert all(p.is_leaf and p.requires_grad and p.is_contiguous() for p in parameters)
    assert all(p.data_ptr() % 256 == parameters[0].data_ptr() % 256 for p in parameters)


def test_a_convolution_in_channels_last_trains_as_any_other():
    weight = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizers = [
        make([Parameter(weight.to(memory_format=torch.channels_last, copy=True))])
        for make in (DAdaptAdam, reference_optimizer)
    ]
    for optimizer in optimizers:
        for _ in range(10):
            optimizer.zero_grad()
            optimizer.param_groups[0]["params"][0].pow(2).mul(weight).sum().backward()
            optimizer.step()
    assert torch.allclose(*(values(optimizer)[0] for optimizer in optimizers), rtol=1e-12, atol=0)


def test_release_gives_every_parameter_its_own_tensor_and_lets_the_buffers_go():
    toy = ToyLoRA()
    ours = DAdaptAdam(parts(toy.parameters))
    toy.loss().backward()
    ours.step()
    trained = values(ours)
    buffers = [weakref.ref(x) for flat in ours._flats for x in (flat.p, flat.g, flat.m, flat.v, flat.s)]
    ours.release()
    gc.collect()
    assert [ref() for ref in buffers] == [None] * 10
    assert same_bits(values(ours), trained)
    assert all(
        p.untyped_storage().nbytes() == p.numel() * p.element_size() and p.grad is None
        for p in toy.parameters
    )


# refused, with the reason -----------------------------------------------------------------------------------


def a_group(dtype=torch.float32, **options):
    return {"params": [Parameter(torch.ones(3, dtype=dtype))], **options}


REFUSED = {
    "fp16": ([a_group(torch.float16)], {}, "float32.*stays at 1e-6"),
    "bf16": ([a_group(), a_group(torch.bfloat16)], {}, "float32, got torch.bfloat16"),
    "coupled decay": ([a_group()], {"decouple": False, "weight_decay": 0.02}, "decouple=False.*destroys"),
    "coupled decay in one group": (
        [a_group(), a_group(weight_decay=0.1)],
        {"decouple": False},
        "decouple=False",
    ),
    "unequal rates": ([a_group(lr=0.5), a_group()], {}, r"lr differs.*layer_scale"),
    "unequal betas": ([a_group(betas=(0.9, 0.99)), a_group()], {}, "betas differs.*share one d"),
    "layer_scale 0": ([a_group(layer_scale=0)], {}, "layer_scale.*above 0.*stop"),
    "rate": ([a_group()], {"lr": -1}, "lr.*got -1"),
    "growth": ([a_group()], {"growth_rate": 0.9}, "growth_rate.*from 1 up"),
    "betas": ([a_group()], {"betas": (0.9, 1.0)}, "betas.*beta2"),
    "eps": ([a_group()], {"eps": 0}, "eps.*above 0"),
    "d0": ([a_group()], {"d0": 0}, "d.*above 0"),
    "cap": ([a_group()], {"d_cap": -1}, "above 0"),
    "s in fp16": ([a_group()], {"s_dtype": torch.float16}, "s_dtype.*bfloat16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_reason_and_the_parameters_as_they_were(case):
    groups, options, reason = REFUSED[case]
    addresses = [p.data_ptr() for group in groups for p in group["params"]]
    with pytest.raises(SettingError, match=reason):
        DAdaptAdam(groups, **options)
    assert [p.data_ptr() for group in groups for p in group["params"]] == addresses


def test_decouple_off_without_decay_is_fine():
    start, tape = record(5)
    ours, reference = pair(start, decouple=False)
    for gradients in tape:
        play(ours, gradients)
        play(reference, gradients)
    assert ours.d == pytest.approx(reference_d(reference), rel=1e-10)


def test_rates_that_part_during_the_run_are_refused():
    """dadaptation raises too, unless one of them is 0: then it lets a part drift for ever."""
    start, tape = record(1, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)))
    play(ours, tape[0])
    for rate in (0.5, 0.0, math.nan, -1.0):
        ours.param_groups[0]["lr"] = rate
        with pytest.raises(SettingError, match=r"Different rates.*layer_scale"):
            ours.step()


def test_a_refused_state_leaves_the_optimizer_as_it_was():
    start, tape = record(3, missing=0)
    ours = DAdaptAdam(parts(parameters_like(start)), **RECIPE)
    play(ours, tape[0])
    before = deep_state(ours)
    bad = copy.deepcopy(ours.state_dict())
    for group in bad["param_groups"]:
        group["decouple"] = False
    with pytest.raises(SettingError, match="decouple=False"):
        ours.load_state_dict(bad)
    assert same_bits(before, deep_state(ours))


def test_there_is_no_group_minus_one_to_stop():
    with pytest.raises(SettingError, match="from 0 to 1, got -1"):
        DAdaptAdam([a_group(), a_group()]).stop_group(-1)


def test_groups_cannot_be_added_later():
    ours = DAdaptAdam([a_group()])
    with pytest.raises(SettingError, match="when the optimizer is made"):
        ours.add_param_group(a_group())


def test_the_reference_keeps_quiet(capsys):
    reference_optimizer([a_group()], weight_decay=0.02)
    assert capsys.readouterr() == ("", "")
