"""Groups of commands, `secateur datasets add` and the like: a file here is a group, by its name.

Each has `commands`, a `typer.Typer` with the group's help; `main.py` takes them all.
"""
