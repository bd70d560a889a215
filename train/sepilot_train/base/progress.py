"""A progress bar for what takes over two seconds; nothing where nobody would see it move."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar(label: str, total: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Draw a bar on stderr, if that is a terminal, until the block ends; what is given is called with steps done."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(escape(label), total=total)
        yield lambda steps: bar.advance(task, steps)
