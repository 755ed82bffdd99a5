"""What goes wrong around ComfyUI.

HostError                  a sentence for the person, without traceback
├── ServerFailed           ComfyUI did not start, or died
└── WorkflowRefused        POST /prompt answered 400
"""


class HostError(Exception):
    """The message says what was expected, what came and what to do."""


class ServerFailed(HostError):
    """ComfyUI did not start or went away; the message ends with its last log lines."""


class WorkflowRefused(HostError):
    """ComfyUI did not accept a workflow.

    node_errors: as the server sent it,
        {node id: {"class_type": ..., "errors": [{"type", "message", "details", "extra_info"}]}}
    """

    def __init__(self, message: str, node_errors: dict):
        super().__init__(message)
        self.node_errors = node_errors
