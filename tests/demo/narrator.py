"""What the demo prints: chapters, the commands as a user would type them, findings; and checks that fail loudly."""

import shlex
from typing import NoReturn

from rich.console import Console

MIB = 1 << 20


class DemoFailedError(AssertionError):
    """Something that the demo promises is not so."""


class Narrator:
    """Prints to standard output; numbers the chapters."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self._console.print(f"\n[bold cyan]{self._chapter}. {title}[/]")

    def command(self, *words: object) -> None:
        """A command that runs next."""
        self._console.print("   [dim]$[/] " + shlex.join(str(word) for word in words), markup=True)

    def tell(self, text: str) -> None:
        """A finding."""
        self._console.print(f"   {text}", markup=False)

    def check(self, true: bool, claim: str) -> None:
        """A claim that must be so. Raises DemoFailedError."""
        if not true:
            self.fail(claim)
        self._console.print(f"   [green]✓[/] {claim}")

    def fail(self, claim: str) -> NoReturn:
        """A claim is not so."""
        self._console.print(f"   [bold red]✗ {claim}[/]")
        raise DemoFailedError(claim)

    def close(self, text: str, *, good: bool) -> None:
        """The last line."""
        self._console.print(f"\n[bold {'green' if good else 'red'}]{text}[/]")


def mib(count: float) -> str:
    """Bytes for people."""
    return f"{count / MIB:.1f} MiB"
