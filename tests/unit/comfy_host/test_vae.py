"""Pictures to latents, with a stand-in for ComfyUI's VAE."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from comfyui_dadapt_lora.comfy_host.vae import count_new, encode_pictures
from comfyui_dadapt_lora.trainer.data.dataset import read_dataset
from comfyui_dadapt_lora.trainer.errors import DatasetError, ModelError
from comfyui_dadapt_lora.trainer.settings.dataset import DatasetConfig
from PIL import Image

CHANNELS = 4


class Vae:
    """Gives one channel of a picture, eight times smaller, as each channel of its latent."""

    def __init__(self, channels=CHANNELS):
        self.first_stage_model, self.channels, self.encoded = torch.nn.Identity(), channels, 0

    def encode(self, pixels):
        self.encoded += 1
        return pixels[:, ::8, ::8, :1].movedim(-1, 1).repeat(1, self.channels, 1, 1)


def model(load_device="meta"):
    """Its device holds shapes alone: a latent that was brought there has lost its values."""
    inner = SimpleNamespace(
        latent_format=SimpleNamespace(latent_channels=CHANNELS, latent_dimensions=2),
        process_latent_in=lambda latent: 0.5 * latent,
    )
    return SimpleNamespace(model=inner, load_device=torch.device(load_device))


@pytest.fixture
def dataset(tmp_path):
    for name, colour in {"red.png": "red", "black.png": "black"}.items():
        (tmp_path / "4_style").mkdir(exist_ok=True)
        Image.new("RGB", (128, 128), colour).save(tmp_path / "4_style" / name)
    return read_dataset(tmp_path, DatasetConfig(resolution=64))


def encode(dataset, vae=None, on_picture=lambda done: None):
    return encode_pictures(model(), vae or Vae(), dataset, dataset.pictures, on_picture)


def test_latents_stay_in_cpu_memory_scaled_for_the_model(dataset):
    black, red = encode(dataset)
    assert black.latent.device.type == red.latent.device.type == "cpu"
    assert red.latent.shape == (CHANNELS, 8, 8) and red.latent.dtype == torch.float32
    assert (red.latent == 0.5).all() and (black.latent == 0).all()
    assert red.repeats == 4


def test_pictures_that_are_known_are_not_encoded_again_also_after_a_cancel(dataset):
    vae = Vae()

    def cancel(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(dataset, vae, cancel)
    assert count_new(vae, dataset, dataset.pictures) == 1
    encode(dataset, vae)
    assert vae.encoded == 2


def assert_told(raised, *words):
    said = str(raised.value)
    assert "The picture 4_style/red.png has changed since Load Dataset read it: " in said
    assert "queue again" in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("step", [encode, lambda dataset: count_new(Vae(), dataset, dataset.pictures)])
def test_a_picture_that_was_removed_is_named_without_its_path(dataset, tmp_path, step):
    (tmp_path / "4_style" / "red.png").unlink()
    with pytest.raises(DatasetError) as raised:
        step(dataset)
    assert_told(raised, "it is no longer there")
    assert str(tmp_path) not in str(raised.value)


def test_a_picture_that_may_not_be_read_is_named_without_its_path(dataset, tmp_path, monkeypatch):
    read = Path.read_bytes

    def refuse(path):
        if path.name == "red.png":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DatasetError) as raised:
        encode(dataset)
    assert_told(raised, "ComfyUI is not allowed to read it")
    assert str(tmp_path) not in str(raised.value)


@pytest.mark.parametrize(
    "spoil, reason",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:150]), "it is cut off or damaged"),
        (lambda path: path.write_bytes(b"no picture"), "it is not a picture"),
        (lambda path: Image.new("RGB", (256, 128)).save(path), "it has another size"),
    ],
)
def test_a_picture_that_was_cut_off_or_replaced_is_named(dataset, tmp_path, spoil, reason):
    spoil(tmp_path / "4_style" / "red.png")
    with pytest.raises(DatasetError) as raised:
        encode(dataset)
    assert_told(raised, reason)


def test_a_latent_that_the_model_cannot_take_is_refused_with_the_pictures_name(dataset):
    with pytest.raises(ModelError, match=r"4_style/black.png a latent of shape \(16, 8, 8\).*\[4, height"):
        encode(dataset, Vae(channels=16))
