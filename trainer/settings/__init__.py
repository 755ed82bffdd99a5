"""Every setting of a run, declared once with its default, range and help.

The nodes show them, and they are checked here.
"""
