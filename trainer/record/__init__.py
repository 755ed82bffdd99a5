"""What remains of a run: records, files, report and curves.

It hears the events of a run; nothing below imports it.
"""
