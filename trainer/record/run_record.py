"""Everything that records a run, put together."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..run.events import Event, Finished, Listener, Listeners, LoraAtStep, Notice, Unfinished
from ..run.state import Stateful
from ..settings.presets import PRESETS
from .closing import Closing
from .facts import RunFacts
from .family_warnings import family_warnings
from .folder import RunFolder, RunPlace
from .history import History
from .keeping import Keeping
from .metadata import training_metadata
from .report import Report


class RunRecord:
    """Listens to one run: history, folder, LoRAs, the watchers of the caller, and the report in the end."""

    def __init__(
        self,
        facts: RunFacts,
        place: RunPlace,
        found: Sequence[str],
        watchers: Iterable[Listener],
        say: Callable[[str], None],
    ) -> None:
        """`found`: lines for the report; `say` takes the last text on the node."""
        self.facts = facts
        self._listeners = Listeners()
        self._history = History()
        folder = RunFolder(place, tell=self._listeners.hear)
        self._keeping = Keeping(folder, lambda record: training_metadata(facts, record), facts.run.hand_on)
        self._closing = Closing(self._history, folder, self._keeping, found, facts.precision, say)
        self._listeners.listeners = [self._history, folder, self._keeping, *watchers, self._closing]

    def hear(self, event: Event) -> None:
        try:
            self._listeners.hear(event)
        finally:
            if isinstance(event, Finished | Unfinished):
                # else they and the folder, which know each other, would hold the LoRAs on
                self._listeners.listeners = []

    def _family_warnings(self) -> Iterator[str]:
        facts = self.facts
        return family_warnings(facts.model, facts.lora, facts.dataset.config.resolution)

    def tell_of_choices(self) -> None:
        """The warnings of the model's family, and of a preset that often destroys LoRAs."""
        for warning in self._family_warnings():
            self.hear(Notice(0, warning))
        if warning := PRESETS[self.facts.recipe.preset].warning:
            self.hear(Notice(0, warning))

    @property
    def output(self) -> LoraAtStep:
        """The LoRA that a finished run outputs."""
        return self._keeping.output

    @property
    def output_metadata(self) -> dict[str, str]:
        """What the file of the output says of itself."""
        return training_metadata(self.facts, self.output.record)

    @property
    def report(self) -> Report:
        """What a finished run says."""
        return self._closing.report

    def owners(self) -> dict[str, Stateful]:
        """What is lost with this process, beside the run's own state."""
        return {"history": self._history, "keeping": self._keeping}
