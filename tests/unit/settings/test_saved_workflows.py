"""Workflows of version 0.1 set what they set then."""

import json
from dataclasses import asdict

import pytest
from comfyui_dadapt_lora.trainer.settings.curves import CurvesConfig
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig, FolderChoice
from comfyui_dadapt_lora.trainer.settings.lora import LoraConfig
from comfyui_dadapt_lora.trainer.settings.lora_file import LoraFileConfig
from comfyui_dadapt_lora.trainer.settings.optimizer import OptimizerConfig
from comfyui_dadapt_lora.trainer.settings.run import RunConfig

from tests.conftest import ROOT

API_FORM = ROOT / "tests" / "host" / "workflows_of_0_1" / "api.json"
SETTINGS = {
    "DAdaptLoadDataset": (FolderChoice, DatasetConfig),
    "DAdaptLoRAConfig": (LoraConfig,),
    "DAdaptOptimizer": (OptimizerConfig,),
    "DAdaptTrain": (RunConfig,),
    "DAdaptSaveLoRA": (LoraFileConfig,),
    "DAdaptTrainingCurves": (CurvesConfig,),
}


@pytest.mark.parametrize("node", SETTINGS)
def test_every_value_of_a_saved_workflow_is_that_of_a_setting(node):
    """Under the same name, whatever settings have been added since."""
    workflow = json.loads(API_FORM.read_text(encoding="utf-8"))
    (inputs,) = [n["inputs"] for n in workflow.values() if n["class_type"] == node]
    saved = {name: value for name, value in inputs.items() if not isinstance(value, list)}
    found = {}
    for settings in SETTINGS[node]:
        names = settings.__dataclass_fields__.keys() & saved.keys()
        found |= asdict(settings(**{name: saved[name] for name in names}))
    assert {name: found[name] for name in saved} == saved
