"""The real front end in a real browser: opens it, loads workflows, and collects everything that fails."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from devhost.client import Client
from devhost.layout import PACK_NAME

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Switches off what would lie over the graph: the templates on a first visit, the small map, drawing
# statistics.
QUIET = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
READY = "() => window.app?.vueAppReady && window.app.graph && window.app.canvas"
READY_MS = 60_000
SET_WIDGET = """([kind, name, value]) => {
    for (const node of app.graph.nodes.filter(n => n.type === kind))
        node.widgets.find(w => w.name === name).value = value
}"""
PICTURES_OR_ERROR = """() => !!app.lastExecutionError || Object.keys(app.lastNodeErrors ?? {}).length > 0
    || app.graph.nodes.filter(n => n.type === 'SaveImage').every(n => n.imgs?.length)"""
# The page asks the registry about every node of a workflow. Where it cannot reach the registry, it names the
# node in its error.
REGISTRY = "api.comfy.org"


@dataclass
class FrontEnd:
    """One open page, and what went wrong in it."""

    page: Page
    page_errors: list[str] = field(default_factory=list)  # exceptions that nobody caught
    console_errors: list[str] = field(default_factory=list)  # all of them, with the address of the script

    @property
    def errors_of_this_pack(self) -> list[str]:
        """Console errors that come from the pack's scripts or name it or its nodes."""
        ours = ("dadapt", PACK_NAME)
        return [
            text
            for text in self.console_errors
            if any(name in text.lower() for name in ours) and REGISTRY not in text
        ]

    def load(self, workflow: dict[str, Any]) -> None:
        """Opens a saved UI workflow, as dropping its file on the page does."""
        self.page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
        self.settle()

    def load_api(self, workflow: dict[str, Any]) -> None:
        """Opens a workflow in API form."""
        self.page.evaluate("workflow => window.app.loadApiJson(workflow, 'dadapt_lora')", workflow)
        self.settle()

    def settle(self) -> None:
        """Waits for two frames: the page lays out nodes and their text fields as it draws them."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.page.wait_for_timeout(300)

    def graph(self) -> dict[str, Any]:
        """The graph as the page would save it."""
        return json.loads(self.page.evaluate("() => JSON.stringify(window.app.graph.serialize())"))

    def api_form(self) -> dict[str, dict[str, Any]]:
        """The graph as the page would queue it."""
        return json.loads(
            self.page.evaluate("async () => JSON.stringify((await window.app.graphToPrompt()).output)")
        )

    def set_widget(self, kind: str, name: str, value: Any) -> None:
        """Sets a widget on every node of a type."""
        self.page.evaluate(SET_WIDGET, [kind, name, value])

    def press_run(self) -> None:
        self.page.get_by_test_id("queue-button").get_by_text("Run").click()

    def wait_for_pictures(self, seconds: float) -> None:
        """Waits until every Save Image node shows one. Raises what the page says of a node that failed."""
        self.page.wait_for_function(PICTURES_OR_ERROR, timeout=1000 * seconds)
        failed = [
            error
            for error in self.page.evaluate("() => [app.lastExecutionError, app.lastNodeErrors]")
            if error
        ]
        if failed:
            raise AssertionError(json.dumps(failed)[:3000])
        self.settle()

    def fit(self) -> None:
        """Moves the view to show the whole graph."""
        self.page.evaluate("() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(1000)  # it glides there
        self.settle()

    def screenshot(self, file: Path) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file)
        return file


@contextmanager
def front_end(chromium: str, client: Client, width: int = 1920, height: int = 1080) -> Iterator[FrontEnd]:
    """Opens the server's page in a fresh browser and waits until it can take a workflow."""
    client.post_json("/settings", QUIET)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        try:
            opened = FrontEnd(browser.new_page(viewport={"width": width, "height": height}))
            opened.page.on("pageerror", lambda error: opened.page_errors.append(str(error)))
            opened.page.on("console", lambda message: _note(opened, message))
            opened.page.goto(client.url)
            opened.page.wait_for_function(READY, timeout=READY_MS)
            yield opened
        finally:
            browser.close()


def _note(opened: FrontEnd, message: ConsoleMessage) -> None:
    if message.type == "error":
        opened.console_errors.append(f"{message.text} ({message.location.get('url', '')})")
