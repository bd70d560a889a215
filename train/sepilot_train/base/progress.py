"""A progress bar for what takes over two seconds; nothing where nobody would see it move."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Protocol

__all__ = ["Advance", "progress_bar"]


class Advance(Protocol):
    """Told of steps done, and of what is being done."""

    def __call__(self, steps: int = 1, *, label: str | None = None) -> None: ...


@contextlib.contextmanager
def progress_bar(label: str, total: int, *, shown: bool = True, apart: bool = False) -> Iterator[Advance]:
    """Draw a bar on stderr, if that is a terminal, until the block ends.

    Args:
        apart: on a descriptor of its own, for what points the usual ones elsewhere.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda steps=1, *, label=None: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with contextlib.ExitStack() as stack:
        console = Console(stderr=True)
        if apart:
            console = Console(file=stack.enter_context(os.fdopen(os.dup(2), "w")), force_terminal=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = stack.enter_context(
            Progress(*columns, console=console, transient=True, redirect_stdout=not apart, redirect_stderr=not apart)
        )
        task = bar.add_task(escape(label), total=total)

        def advance(steps: int = 1, *, label: str | None = None) -> None:
            bar.update(task, advance=steps, description=None if label is None else escape(label))

        yield advance
