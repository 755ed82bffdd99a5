"""Client: talks to a ComfyUI server over HTTP and its websocket, with plain calls that return the answer.

aiohttp is one of ComfyUI's own needs, so every Python that runs ComfyUI has it. Its event loop runs in a
thread.
"""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp

from .errors import HostError, ServerFailed, WorkflowRefused
from .execution import Event, Execution

Workflow = dict[str, dict[str, Any]]  # API form: {node id: {"class_type", "inputs"}}
OnEvent = Callable[[Event], None]
_Result = TypeVar("_Result")
HISTORY_SECONDS = 20  # the history is written a moment after the last event


class Client:
    """Use it as `with Client(server.url) as client: client.run(workflow)`.

    Several prompts may be queued and waited for.
    """

    def __init__(self, url: str):
        self.url = url
        self.client_id = uuid.uuid4().hex
        self._executions: dict[str, Execution] = {}
        self._running: str | None = None  # the prompt that events without prompt_id belong to
        self._lost: str | None = None  # why the websocket is gone
        self._news = threading.Condition()

    def __enter__(self) -> "Client":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ComfyUI client", daemon=True)
        self._thread.start()
        try:
            self._call(self._connect())
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call(self._disconnect())
        finally:
            self._stop_loop()

    # workflows

    def run(self, workflow: Workflow, on_event: OnEvent | None = None, timeout: float = 3600) -> Execution:
        """Queues a workflow and waits for its end.

        A node that fails raises nothing here: it is the Execution's `error`, see Execution.check.
        """
        return self.wait(self.submit(workflow), on_event, timeout)

    def submit(self, workflow: Workflow) -> str:
        """Queues a workflow and returns its prompt id.

        Raises WorkflowRefused, also where ComfyUI would leave nodes out.
        """
        status, answer = self._call(self._post("/prompt", {"prompt": workflow, "client_id": self.client_id}))
        if status == 200 and answer.get("node_errors"):
            self.post_json("/queue", {"delete": [answer["prompt_id"]]})
            self.post_json("/interrupt", {"prompt_id": answer["prompt_id"]})
        if status != 200 or answer.get("node_errors"):
            raise _refusal(answer)
        return answer["prompt_id"]

    def wait(self, prompt_id: str, on_event: OnEvent | None = None, timeout: float = 3600) -> Execution:
        """Follows a prompt to its end: success, error or interruption.

        on_event: called in the caller's thread for each event, those before this call included.
        Raises HostError after `timeout` seconds, ServerFailed when the server goes away.
        """
        execution = self._execution(prompt_id)
        seen = 0
        give_up = time.monotonic() + timeout
        while True:
            new = self._wait_for_events(execution, seen, give_up)
            seen += len(new)
            for event in new if on_event else ():
                on_event(event)
            if execution.status != "running" and seen == len(execution.events):
                execution.outputs = self._finished(prompt_id)["outputs"]
                return execution

    def wait_for(self, prompt_id: str, accept: Callable[[Event], bool], timeout: float = 3600) -> Event:
        """The first event of the prompt for which `accept` is true, while the prompt runs on.

        The event may have come before this call. Raises HostError when the prompt ends without one.
        """
        execution = self._execution(prompt_id)
        seen = 0
        give_up = time.monotonic() + timeout
        while True:
            new = self._wait_for_events(execution, seen, give_up)
            seen += len(new)
            for event in filter(accept, new):
                return event
            if execution.status != "running" and seen == len(execution.events):
                raise HostError(
                    f"The workflow ended before the event waited for: {execution.error or execution.status}."
                )

    def interrupt(self) -> None:
        """Asks the running prompt to stop; `wait` then returns an interrupted Execution."""
        self.post_json("/interrupt", {})

    def free(self) -> None:
        """Asks the server to unload all models and forget all cached results before its next prompt."""
        self.post_json("/free", {"unload_models": True, "free_memory": True})

    # questions

    def object_info(self, class_type: str | None = None) -> dict[str, Any]:
        """What the page knows of all node types, or of the one named. Raises HostError when there is none."""
        if class_type is None:
            return self.get_json("/object_info")
        found = self.get_json(f"/object_info/{class_type}")
        if class_type not in found:
            raise HostError(
                f"The server has no node type {class_type}. Its log says whether the pack was loaded."
            )
        return found[class_type]

    def history(self, prompt_id: str) -> dict[str, Any]:
        """The record of a finished prompt, or {} while it is not finished."""
        return self.get_json(f"/history/{prompt_id}").get(prompt_id, {})

    def queue(self) -> dict[str, Any]:
        return self.get_json("/queue")

    def view(self, image: dict[str, str]) -> bytes:
        """The file that an output node refers to by {"filename", "subfolder", "type"}."""
        return self._call(self._get("/view", params=image))

    def get_json(self, path: str) -> Any:
        return json.loads(self._call(self._get(path)))

    def post_json(self, path: str, body: dict[str, Any]) -> Any:
        """The answer, None for an empty one. Raises HostError when its status is not 200."""
        status, answer = self._call(self._post(path, body))
        if status != 200:
            raise HostError(f"POST {path} was answered {status}: {answer}")
        return answer

    # the connection

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=120))
        self._socket = await self._session.ws_connect(
            "/ws", params={"clientId": self.client_id}, max_msg_size=0
        )
        self._listener = asyncio.create_task(self._listen())

    async def _disconnect(self) -> None:
        self._listener.cancel()
        await self._socket.close()
        await self._session.close()

    async def _listen(self) -> None:
        """Sorts every event to its prompt. Binary messages (previews) are left out."""
        reason = "the connection was closed"
        try:
            async for message in self._socket:
                if message.type == aiohttp.WSMsgType.TEXT:
                    self._take(json.loads(message.data))
        except Exception as error:  # handed to whoever waits, in _wait_for_events
            reason = f"{type(error).__name__}: {error}"
        with self._news:
            self._lost = f"{reason} (websocket code {self._socket.close_code}, {self._socket.exception()})"
            self._news.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        data = message.get("data")
        event = Event(message["type"], data if isinstance(data, dict) else {"data": data})
        with self._news:
            if event.type == "execution_start":
                self._running = event.data.get("prompt_id")
            prompt_id = event.data.get("prompt_id") or self._running
            if prompt_id:
                self._executions.setdefault(prompt_id, Execution(prompt_id)).take(event)
            self._news.notify_all()

    async def _get(self, path: str, params: dict[str, str] | None = None) -> bytes:
        async with self._session.get(path, params=params) as response:
            body = await response.read()
        if response.status != 200:
            raise HostError(
                f"GET {path} was answered {response.status}: {body[:500].decode(errors='replace')}"
            )
        return body

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        async with self._session.post(path, json=body) as response:
            text = await response.text()
        return response.status, _json_or_text(text)

    def _call(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except aiohttp.ClientError as error:
            raise ServerFailed(f"ComfyUI at {self.url} does not answer: {error}") from error

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # following

    def _execution(self, prompt_id: str) -> Execution:
        with self._news:
            return self._executions.setdefault(prompt_id, Execution(prompt_id))

    def _wait_for_events(self, execution: Execution, seen: int, give_up: float) -> list[Event]:
        """The events after the first `seen`; waits until there is one."""
        with self._news:
            while len(execution.events) == seen:
                if self._lost:
                    raise ServerFailed(f"ComfyUI at {self.url} went away: {self._lost}.")
                if time.monotonic() > give_up:
                    raise HostError(
                        f"The workflow did not end in time; its last event: {execution.events[-1:]}"
                    )
                self._news.wait(0.5)  # short, so that Ctrl-C is heard on Windows too
            return execution.events[seen:]

    def _finished(self, prompt_id: str) -> dict[str, Any]:
        give_up = time.monotonic() + HISTORY_SECONDS
        while not (record := self.history(prompt_id)):
            if time.monotonic() > give_up:
                raise HostError(f"Expected prompt {prompt_id} in the server's history, it is not there.")
            time.sleep(0.02)
        return record


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return text


def _refusal(answer: Any) -> WorkflowRefused:
    """Puts the answer's error and node errors into words."""
    if not isinstance(answer, dict):
        return WorkflowRefused(f"ComfyUI refused the workflow: {answer}", {})
    node_errors = answer.get("node_errors") or {}
    words = [_in_words(answer["error"])] if answer.get("error") else []
    for node_id, found in node_errors.items():
        node = f"{found.get('class_type')} (node {node_id})"
        words += [f"{node}: {_in_words(error)}" for error in found.get("errors", [])]
    return WorkflowRefused("ComfyUI refused the workflow: " + "; ".join(words), node_errors)


def _in_words(error: dict[str, Any]) -> str:
    return ": ".join(part for part in (error.get("message", ""), error.get("details", "")) if part)
