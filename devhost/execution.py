"""What a client knows about one prompt: its events as they came, and how it ended."""

from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import HostError


@dataclass(frozen=True)
class Event:
    """One JSON message of the websocket, such as type "executing" or "dadapt_lora.step"."""

    type: str
    data: dict[str, Any]


@dataclass(frozen=True)
class NodeFailure:
    """The data of an `execution_error` event."""

    node_id: str
    class_type: str
    exception_type: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.class_type} (node {self.node_id}) failed: {self.message} [{self.exception_type}]"


@dataclass
class Execution:
    """One prompt, finished.

    outputs: {node id: what the node shows}, from the history; a node whose result was cached is among them.
    """

    prompt_id: str
    events: list[Event] = field(default_factory=list)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: Literal["running", "success", "error", "interrupted"] = "running"
    error: NodeFailure | None = None

    @property
    def cached_nodes(self) -> set[str]:
        """The nodes whose earlier result was used, as `execution_cached` events say."""
        return {node for event in self.events_of("execution_cached") for node in event.data.get("nodes", [])}

    @property
    def executed_nodes(self) -> set[str]:
        """The nodes that really ran, as `executing` events say, which are not sent for cached nodes."""
        return {event.data["node"] for event in self.events_of("executing") if event.data.get("node")}

    def events_of(self, *types: str) -> list[Event]:
        return [event for event in self.events if event.type in types]

    def images(self, node_id: str) -> list[dict[str, str]]:
        """References to the pictures of an output node, for Client.view."""
        return self.outputs.get(node_id, {}).get("images", [])

    def check(self) -> "Execution":
        """Itself when it succeeded; raises HostError when it failed or was interrupted."""
        if self.status == "success":
            return self
        raise HostError(
            str(self.error) if self.error else f"The workflow did not run to its end: {self.status}."
        )

    def take(self, event: Event) -> None:
        """Appends an event, and sets the status that follows from it."""
        self.events.append(event)
        if event.type == "execution_success":
            self.status = "success"
        elif event.type == "execution_interrupted":
            self.status = "interrupted"
        elif event.type == "execution_error":
            self.status = "error"
            self.error = _failure(event.data)


def _failure(data: dict[str, Any]) -> NodeFailure:
    return NodeFailure(
        node_id=str(data.get("node_id", "")),
        class_type=data.get("node_type", ""),
        exception_type=data.get("exception_type", ""),
        message=str(data.get("exception_message", "")).strip(),
        traceback="".join(data.get("traceback", [])),
    )
