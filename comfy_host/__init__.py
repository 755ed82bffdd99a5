"""Where the pack meets ComfyUI: the only place that imports `comfy.*`, `folder_paths` or `server`."""
