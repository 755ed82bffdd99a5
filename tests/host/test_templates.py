"""What the page offers under Templates."""

from devhost.layout import PACK_NAME


def test_only_the_ui_workflows_are_offered(client):
    """ComfyUI takes every example_workflows/*.json for one; the API form, opened there, would be an empty
    graph.
    """
    assert sorted(client.get_json("/workflow_templates")[PACK_NAME]) == ["dadapt_lora", "dadapt_lora_sd15"]
