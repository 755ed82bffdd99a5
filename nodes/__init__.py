"""The pack's nodes, one file each: a schema and a thin execute."""
