"""A real ComfyUI for the demo, the tests and the benchmarks.

The nodes do not need this package, and ComfyUI never imports it.

errors.py       HostError
console.py      the one place that writes to the person
layout.py       where everything lies; Host, a ComfyUI and its Python; the environment variables
pins.py         every version that is installed
files.py        atomic replacing, links, stamps
lock.py         one setup at a time across processes
pip.py          virtual environments and pip
setup.py        makes the environment, ComfyUI and the developer tools
existing.py     uses a ComfyUI that is there already
base.py         a base directory of our own, with the pack linked into custom_nodes
pack.py         makes the pack importable outside of ComfyUI
inprocess.py    ComfyUI's modules in this process, without a server
child.py        runs a command in the foreground and survives Ctrl-C
commands.py     what run.py's commands do
run_module.py   runs a module with folders added to sys.path  (a script)
run_comfyui.py  runs main.py and ends with its parent          (a script)
server.py       HostServer: starts and stops a server
client.py       Client: talks to it
execution.py    what a client knows about one prompt

Everything but client.py needs the standard library only.
"""
