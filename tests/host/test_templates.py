"""What the page offers under Templates."""

import json

from devhost.layout import PACK_NAME
from tests.browser.templates import templates
from tests.host import graph

DEMO = json.loads((graph.EXAMPLES / "dadapt_lora.json").read_text(encoding="utf-8"))


def test_only_the_ui_workflows_are_offered(client):
    """ComfyUI takes every example_workflows/*.json for one; the API form, opened there, would be an empty
    graph.
    """
    offered = client.get_json("/workflow_templates")[PACK_NAME]
    assert sorted(offered) == ["dadapt_lora", *templates(DEMO)]
