"""Goes on with runs from their states, in a process of its own.

usage: go_on.py CHECKOUT FOLDER        (FOLDER: NAME.pt of each run; NAME.end.pt is written beside it)
"""

import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from devhost.pack import load_pack

load_pack()

import torch  # noqa: E402
from comfyui_dadapt_lora.trainer.adapters.hooks import attached  # noqa: E402

from tests.unit.run.resumable import begun  # noqa: E402
from tests.unit.toy import weights  # noqa: E402


def main() -> None:
    for file in sorted(Path(sys.argv[2]).glob("*.pt")):
        saved = torch.load(file, weights_only=True)
        ends = {step: gone_on(saved["settings"], state) for step, state in saved["states"].items()}
        torch.save(ends, file.with_suffix(".end.pt"))


def gone_on(settings, state):
    one, adapters = begun(settings)
    one.load(state)
    with attached(adapters):
        one.run()
    return weights(adapters)


main()
