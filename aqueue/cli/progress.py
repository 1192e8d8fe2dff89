"""Progress bars on a terminal. Imported only where one is shown: rich takes its time."""

from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment


class CountBar:
    """How much of a batch is done, on stderr; its size is not known before its end."""

    def __init__(self, what: str) -> None:
        self._progress = Progress(
            TextColumn(f"{what} {{task.completed:,.0f}}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(what, total=None)
        self._progress.start()

    def show(self, done: int) -> None:
        self._progress.update(self._task, completed=done)

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """Lines that are formatted already, and go to the terminal as they are."""

    def __init__(self, lines: list[str]) -> None:
        self._text = "\n".join(lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text)
        yield Segment.line()


class DrainBar:
    """The progress of a drain: counts and time left, below the lines that are printed meanwhile."""

    def __init__(self) -> None:
        self._console = Console()
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> "DrainBar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: int, left: int, note: str) -> None:
        self._progress.update(self._task, completed=done, total=done + left, description=note)

    def print(self, lines: list[str]) -> None:
        # They fit the terminal already; rich would count the bytes of their colours, and cut off as many columns.
        self._console.print(_Lines(lines), end="", crop=False)
