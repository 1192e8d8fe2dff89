"""The outer shell of an attempt: what it is given to run, and what it writes about how the command ended.

The shell appends the exit status to the file that is its stdin, as a line `TOKEN STATUS`. So the status is known even
if the pool that started the command is gone. What the shell itself has to say goes to the same file, on the lines
before: the name of the signal that ended the command, or why it could not start it. A pool or a watchdog that ends an
attempt first adds a line `TOKEN interrupted`.

Everything here is text in, text out: no process and no file is touched.
"""

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from aqueue.attempts.token import Token

SHELL = "/bin/sh"
STATUS_TAIL = 4096
"""At the end of a status file, so many bytes hold all that the latest attempt's shell wrote."""
_INTERRUPTED = "interrupted"

# What is given to the shell

_PASSED_ON = "HUP INT QUIT TERM USR1 USR2 ALRM"
_SAFE = r"[A-Za-z0-9_./:@%+,-]"
_WORD = r"""(?:[A-Za-z0-9_./:@%+,=-]|'[^'\n\0]*'|"[^"$`\\!\n\0]*")+"""
_PLAIN_WORDS = re.compile(rf"(?P<name>{_SAFE}+)(?: +{_WORD})*")
_RESERVED = ("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "in")
_EXTENSIONS = ("function", "select", "time", "coproc")
_BUILTINS = (".", "source", "eval", "return", "break", "continue", "trap", "set", "shift", "alias", "unalias", "wait")
_NOT_PLAIN = frozenset((*_RESERVED, *_EXTENSIONS, *_BUILTINS, "times", "local"))
"""First words that are shell language, or whose meaning depends on which shell they run in."""
_HARMLESS = frozenset(("true", "false", "echo", "printf", "pwd", "test"))
"""Builtins that leave the shell which runs them as it was."""


def reporting_script(command: str, token: str) -> str:
    """The script for `sh -c` that runs `command` and appends its exit status to the file that is its stdin.

    The status is written by the outer shell, which outlives the pool. A signal handler, unlike ignoring, is not
    inherited: a signal to the group ends the command as usual and leaves the outer shell to report it.
    """
    return (
        f'exec 3>&2 2>&0;trap : {_PASSED_ON};{isolated(command)} </dev/null 2>&3 3>&-;s=$?;echo "{token} $s">&2;exit $s'
    )


def isolated(command: str) -> str:
    """`command` in as much of a shell of its own as it needs to mean what it means under `sh -c`.

    In general that is a new shell, so that nothing in it (exec, exit, trap, `$$`, a syntax error) can evade the report.
    Of plain words, a program and its arguments, the shell knows only where they end: those mean the same in a
    subshell, which costs half as much. A builtin that only prints or compares needs no process at all.

    None of the three forms is confused by a redirection behind it.
    """
    plain = _PLAIN_WORDS.fullmatch(command)
    if plain is None or plain["name"] in _NOT_PLAIN:
        return f"(exec {SHELL} -c {shlex.quote(command)})"
    return command if plain["name"] in _HARMLESS else f"({command})"


# What the shell writes


def interruption(token: str) -> str:
    """The line for the status file which says that the attempt is about to be interrupted."""
    return f"{token} {_INTERRUPTED}\n"


class Report(NamedTuple):
    """What a status file says of an attempt."""

    status: int | None
    """The shell's `$?`; None if the shell did not come to write it."""
    remark: str
    """What the shell wrote just before."""
    interrupted: bool
    """Whether the pool, or a watchdog in its place, was about to end the attempt before it ended."""

    @property
    def signal(self) -> int | None:
        """The signal that ended the command.

        Shells report a signal as 128 + its number, with a remark but for SIGINT and SIGPIPE: those stay the exit
        statuses 130 and 141, which `exit` could have given as well.
        """
        return self.status - 128 if self.status is not None and self.status > 128 and self.remark else None

    @property
    def exit_code(self) -> int | None:
        """The command's exit status; None if a signal ended it, or if nothing is known."""
        return self.status if self.signal is None else None

    @property
    def start_error(self) -> str | None:
        """Why the shell could not start the command, where that is so."""
        return self.remark if self.status is None and self.remark else None


NO_REPORT = Report(None, "", False)


def parse_report(text: str, token: str) -> Report:
    """What the status file with this text, or with this end, says of the attempt `token`."""
    remark, interrupted = "", False
    for line in text.splitlines():
        name, word = _parse_line(line)
        if name == token and word == _INTERRUPTED:
            interrupted = True
        elif name == token:
            return Report(int(word), remark, interrupted)
        remark = "" if name else line
    return Report(None, remark, interrupted)


def reported_tokens(text: str) -> Iterator[Token]:
    """The attempts whose exit status a status file holds."""
    for line in text.splitlines():
        name, word = _parse_line(line)
        token = Token.parse(name)
        if token is not None and word != _INTERRUPTED:
            yield token


def _parse_line(line: str) -> tuple[str, str]:
    """The token of a line and the word that follows; two empty strings if the line is a remark of the shell's."""
    name, _, word = line.rpartition(" ")
    known = word == _INTERRUPTED or (word.isascii() and word.isdigit())
    return (name, word) if known and Token.parse(name) is not None else ("", "")
