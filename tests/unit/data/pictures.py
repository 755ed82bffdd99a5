"""Picture files for the tests of this room."""

from PIL import Image


def add_picture(folder, name, caption=None, size=(128, 128), mode="RGB", colour="red"):
    """Writes a flat picture and, where it has one, its caption."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(folder / name)
    if caption is not None:
        (folder / name).with_suffix(".txt").write_text(caption, encoding="utf-8")


def cut_off(path):
    """Leaves a file that opens, and breaks off while it is decoded."""
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:500])
