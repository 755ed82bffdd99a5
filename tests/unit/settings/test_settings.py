"""Settings: the recipe's defaults, and what is refused with a reason."""

import math

import pytest
from comfyui_dadapt_lora.trainer.errors import SettingError
from comfyui_dadapt_lora.trainer.settings.curves import CurvesConfig
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig, FolderChoice
from comfyui_dadapt_lora.trainer.settings.declare import limits_of
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig
from comfyui_dadapt_lora.trainer.settings.lora_file import LoraFileConfig
from comfyui_dadapt_lora.trainer.settings.objective import ObjectiveConfig
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.run import RunConfig
from comfyui_dadapt_lora.trainer.settings.schedule import rate_factor, warmup_steps


def test_defaults_are_the_guides():
    recipe = OptimizerConfig()
    assert (recipe.learning_rate, recipe.unet, recipe.text_encoder) == (1.0, 1.0, 0.5)
    assert (recipe.warmup_percent, recipe.schedule) == (10.0, "constant")
    assert (recipe.decouple, recipe.weight_decay, recipe.beta1, recipe.beta2) == (True, 0.02, 0.9, 0.999)
    assert LoraConfig().dim == 16


def test_as_published_has_no_safeguard():
    published = OptimizerConfig(preset="as published").resolved()
    assert (published.bias_correction, published.burn_guard) == (False, False)
    assert published.growth_limit(steps=100) == math.inf


def test_a_field_may_have_what_the_preset_sets_anyway():
    assert OptimizerConfig(preset="as published", bias_correction=False) != OptimizerConfig(
        preset="as published"
    )
    assert (
        OptimizerConfig(preset="as published", bias_correction=False).resolved()
        == OptimizerConfig(preset="as published").resolved()
    )


@pytest.mark.parametrize("steps, reached", [(20, 12.8), (100, 64), (200, 128), (3000, 128)])
@pytest.mark.parametrize("d0", [1e-6, 1e-5])
def test_auto_growth_lets_d_reach_a_useful_value_in_two_thirds_of_the_run_and_128_steps_at_most(
    steps, reached, d0
):
    growth = OptimizerConfig(d0=d0).growth_limit(steps)
    assert d0 * growth**reached == pytest.approx(5e-4)


def test_auto_growth_holds_a_d0_that_is_high_already_and_a_set_rate_is_taken():
    assert OptimizerConfig(d0=1e-3).growth_limit(100) == 1.0
    assert OptimizerConfig(growth_rate=1.1).growth_limit(100) == 1.1


@pytest.mark.parametrize("alpha", [8, 1, 0, "8", 15.9, None])
def test_another_alpha_is_refused_with_the_reason(alpha):
    with pytest.raises(SettingError, match=r"alpha: expected 'same as dim' \(here 16\).*overshoots"):
        LoraConfig(dim=16, alpha=alpha)


@pytest.mark.parametrize("alpha", ["same as dim", 16, 16.0])
def test_alpha_that_is_dim_is_accepted(alpha):
    LoraConfig(dim=16, alpha=alpha)


@pytest.mark.parametrize(
    "settings, reason",
    [
        (lambda: LoraConfig(dim=0), "dim: expected at least 1, got 0"),
        (lambda: LoraConfig(dim=10_000), "dim: expected at most 512"),
        (lambda: LoraConfig(dim=16.5), "dim: expected a whole number, got 16.5"),
        (lambda: LoraConfig(dim=True), "dim: expected a whole number, got true"),
        (lambda: LoraConfig(dim="many"), "dim: expected a whole number, got 'many'"),
        (lambda: LoraConfig(dim=None), "dim: expected a whole number, got nothing"),
        (lambda: LoraConfig(dim=float("inf")), "dim: expected a whole number, got inf"),
        (lambda: LoraConfig(dim=10**5000), "dim: expected at most 512, got a number of thousands of digits"),
        (lambda: LoraConfig(train_unet="false"), "train unet: expected true or false, got 'false'"),
        (lambda: LoraConfig(layers=["all"]), r"layers: expected one of 'attention', 'all', got \['all'\]"),
        (lambda: LoraConfig(alpha=[16]), r"alpha: expected 'same as dim' \(here 16\), got \[16\]"),
        (lambda: OptimizerConfig(d0=10**400), "d0: expected at most 0.01, got 1000"),
        (lambda: DatasetConfig(trigger_word=5), "trigger word: expected text, got 5"),
        (lambda: DatasetConfig(trigger_word="x" * 10**6), "expected at most 200 characters, got 1,000,000"),
        (lambda: DatasetConfig(trigger_word="a\ud800"), "trigger word: expected text, got half a character"),
        (lambda: LoraFileConfig(dtype="FP16"), "dtype: expected one of 'fp16', 'bf16', 'fp32', got 'FP16'"),
        (lambda: CurvesConfig(width=10), "width: expected at least 300, got 10"),
        (lambda: LoraConfig(train_unet=False, train_text_encoder=False), "Nothing to train"),
        (lambda: OptimizerConfig(learning_rate=float("nan")), "learning rate: expected a number"),
        (
            lambda: OptimizerConfig(preset="prodigy"),
            "preset: expected one of 'guide 2023', 'steady', 'Prodigy'",
        ),
        (
            lambda: OptimizerConfig(preset="AdamW", d_cap=1e-3),
            r"preset 'AdamW' does not use .* d cap \(0.0 in a new node\)",
        ),
        (
            lambda: OptimizerConfig(preset="as published", growth_rate=1.02),
            "does not use what is set here: growth rate",
        ),
        (lambda: OptimizerConfig(preset="Prodigy + schedule-free", beta1=0.0), "beta1: expected more than 0"),
        (
            lambda: OptimizerConfig(stop_unet_percent=50.0, stop_text_encoder_percent=80.0),
            "Nothing would train at the end of the run",
        ),
        (
            lambda: OptimizerConfig(implementation="reference", s_in_bf16=True),
            "'reference' cannot do this: s in bf16",
        ),
        (
            lambda: OptimizerConfig(preset="Prodigy", stop_unet_percent=50.0),
            "does not use .* stop unet percent",
        ),
        (lambda: OptimizerConfig(adamw_rate=1e-3), "preset 'guide 2023' does not use .* adamw rate"),
        (lambda: OptimizerConfig(decouple=False), "decouple on, or weight decay 0"),
        (lambda: OptimizerConfig(growth_rate=0.5), "d cannot shrink"),
        (
            lambda: ObjectiveConfig(least_noise=0.6, most_noise=0.6),
            r"least noise 0\.6 and most noise 0\.6: expected least noise below most noise",
        ),
        (lambda: ObjectiveConfig(shift=0.001), r"shift: expected 0 \(auto\) or at least 0\.01, got 0\.001"),
        (
            lambda: ObjectiveConfig(noise_levels="uniform", logit_mean=0.5),
            r"logit mean 0\.5 has no effect without noise levels 'logit-normal'\. Set it back to 0, or",
        ),
        (
            lambda: ObjectiveConfig(logit_std=2),
            "logit std 2 has no effect without noise levels 'logit-normal'",
        ),
        (
            lambda: ObjectiveConfig(huber_c=0.2),
            "huber c 0.2 has no effect without loss 'huber' or 'smooth l1'",
        ),
        (
            lambda: ObjectiveConfig(weighting="debiased", min_snr_gamma=1),
            "min snr gamma 1 has no effect without weighting 'min-SNR'. Set it back to 5",
        ),
        (lambda: ObjectiveConfig(multires_discount=0.5), "has no effect without multires iterations"),
        (lambda: ObjectiveConfig(loss="l2"), "loss: expected one of 'mse', 'huber', 'smooth l1', got 'l2'"),
        (lambda: ObjectiveConfig(noise_offset=-0.1), "noise offset: expected at least 0"),
        (lambda: RunConfig(duration=0), "duration: expected at least 1"),
        (lambda: RunConfig(duration_unit="hours"), "duration unit: expected one of 'steps', 'epochs'"),
        (lambda: DatasetConfig(heldout_share=0.9), "heldout share: expected at most 0.5"),
        (lambda: DatasetConfig(resolution=100_000), "resolution: expected at most 2048"),
        (
            lambda: DatasetConfig(resolution=100),
            r"resolution: expected a multiple of 64, got 100\. The nearest is 128",
        ),
        (lambda: DatasetConfig(resolution=70), "The nearest is 64"),
    ],
)
def test_what_cannot_work_is_refused_in_words(settings, reason):
    with pytest.raises(SettingError, match=reason):
        settings()


ALL_SETTINGS = [
    *(FolderChoice, DatasetConfig, LoraConfig, OptimizerConfig, ObjectiveConfig),
    *(RunConfig, LoraFileConfig, CurvesConfig),
]


@pytest.mark.parametrize("settings", ALL_SETTINGS)
def test_every_setting_says_what_it_does(settings):
    for name, (_, limits) in limits_of(settings).items():
        assert len(limits.help) > 20, name


@pytest.mark.parametrize("settings", ALL_SETTINGS)
@pytest.mark.parametrize(
    "value", ["x" * 10**6, ["x" * 10**6] * 9, {"x" * 10**6: [[["x"]]]}, 10**400, object()]
)
def test_no_error_repeats_a_long_value(settings, value):
    for name in limits_of(settings):
        with pytest.raises(SettingError) as refused:
            settings(**{name: value})
        assert len(str(refused.value)) < 700, name


@pytest.mark.parametrize("dim", [16, 16.0, "16", "16.0"])
def test_a_number_may_be_written_in_other_ways_and_is_of_its_own_type(dim):
    """JSON, scripts and other nodes write them so; ComfyUI's own nodes take them."""
    assert LoraConfig(dim=dim) == LoraConfig(dim=16) and type(LoraConfig(dim=dim).dim) is int
    assert type(OptimizerConfig(learning_rate=1).learning_rate) is float
    assert LoraConfig(train_unet=0).train_unet is False


def test_warmup_rises_evenly_to_full_and_never_starts_at_zero():
    assert warmup_steps(200, 10.0) == 20
    factors = [rate_factor("constant", step, 6, 4) for step in range(6)]
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rate_factor("constant", 0, 6, 0) == 1.0


def test_cosine_falls_from_full_after_the_warmup_to_almost_nothing_at_the_last_step():
    factors = [rate_factor("cosine", step, 104, 4) for step in range(104)]
    assert factors[3:5] == [1.0, 1.0]
    assert factors[54] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001
    assert factors[4:] == sorted(factors[4:], reverse=True)
