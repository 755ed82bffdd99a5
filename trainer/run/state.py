"""Everything that a run can lose."""

from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import SettingError

VERSION = 1


class Stateful(Protocol):
    """A part of a run that has something to lose.

    A state holds tensors, numbers, strings, lists and dicts only, so that `torch.load` reads it with
    `weights_only=True`. It shares no memory with the run, which goes on.
    """

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over a state of another process, before the first step of this one."""


class RunState:
    """The state of a run as one: each of its owners' under the owner's name."""

    def __init__(self, owners: Mapping[str, Stateful]) -> None:
        self.owners = dict(owners)

    def state(self) -> dict[str, Any]:
        return {"version": VERSION, **{name: owner.state() for name, owner in self.owners.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Raises `SettingError` for the state of another kind of run, before anything is taken over."""
        if state.get("version") != VERSION or state.keys() - {"version"} != self.owners.keys():
            raise SettingError(
                f"This state of a run cannot be continued here: expected version {VERSION} with"
                f" {', '.join(self.owners)}; got version {state.get('version')} with"
                f" {', '.join(state.keys() - {'version'})}. Continue it with the settings of its beginning."
            )
        for name, owner in self.owners.items():
            owner.load(state[name])
