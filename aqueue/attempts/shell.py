"""The shell that runs a command: the line it is given, the status line it writes, and what that means.

An outer shell, which outlives its pool, runs the command in a shell of its own and appends `TOKEN STATUS` to the file
that is its stdin, after its remarks, if it had any: the name of the signal that ended the command, or why it could not
start it. Whoever is about to end an attempt appends `TOKEN interrupted` before.

Everything here is text in and values out; no process or file is touched.
"""

import re
import shlex
from typing import NamedTuple

from aqueue.attempts.token import Token

SHELL = "/bin/sh"
"""The shell of every command; a path, so that no `PATH` decides which one that is."""
_TRAPPED_SIGNALS = "HUP INT QUIT TERM USR1 USR2 ALRM"
_INTERRUPTED = "interrupted"


# What the shell is given


def shell_line(command: str, token: str) -> str:
    """The line for the outer shell: run `command`, then append its exit status to the file that is stdin.

    The command has a shell of its own, so that nothing in it (exec, exit, trap, `$$`, a syntax error) can evade that
    or mean something else than under `sh -c`; a command of plain words means the same in a subshell, which costs half
    as much, and a builtin that only prints or compares needs no process at all. A signal handler, unlike ignoring, is
    not inherited: a signal to the group ends the command as usual and leaves the outer shell to report it. What the
    shell remarks on a child that a signal killed goes to the same file.
    """
    return (
        f"exec 3>&2 2>&0;trap : {_TRAPPED_SIGNALS};{_isolated(command)} </dev/null 2>&3 3>&-;"
        f's=$?;echo "{token} $s">&2;exit $s'
    )


_SAFE = r"[A-Za-z0-9_./:@%+,-]"
_WORD = r"""(?:[A-Za-z0-9_./:@%+,=-]|'[^'\n\0]*'|"[^"$`\\!\n\0]*")+"""
_PLAIN = re.compile(rf"(?P<name>{_SAFE}+)(?: +{_WORD})*")
_RESERVED = ("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "in")
_EXTENSIONS = ("function", "select", "time", "coproc")
_BUILTINS = (".", "source", "eval", "return", "break", "continue", "trap", "set", "shift", "alias", "unalias", "wait")
_NOT_PLAIN = frozenset((*_RESERVED, *_EXTENSIONS, *_BUILTINS, "times", "local"))
"""First words that are shell language, or whose meaning depends on which shell they run in."""
_STATELESS = frozenset(("true", "false", "echo", "printf", "pwd", "test"))
"""Builtins that leave the shell which runs them as it was."""


def _isolated(command: str) -> str:
    """`command` in as much of a shell of its own as it takes; a redirection behind it applies to all of it.

    In plain words the shell sees nothing but where they end: they are a program and its arguments."""
    plain = _PLAIN.fullmatch(command)
    if plain is None or plain["name"] in _NOT_PLAIN:
        return f"(exec {SHELL} -c {shlex.quote(command)})"
    return command if plain["name"] in _STATELESS else f"({command})"


# What the status file says


def interruption_line(token: str) -> str:
    """What is appended to the status file before the attempt `token` is ended by its pool, or in its place."""
    return f"{token} {_INTERRUPTED}\n"


class StatusReport(NamedTuple):
    """What a status file says of one attempt."""

    status: int | None = None
    """The command's `$?`; None where the shell did not come to write it."""
    remark: str = ""
    """What the shell wrote just before: the signal that ended the command, or why it could not start it."""
    interrupted: bool = False
    """Whether somebody marked the attempt as interrupted before it ended."""


def parse_status(text: str, token: str) -> StatusReport:
    """What `text`, a status file or its end, says of the attempt `token`."""
    remark, interrupted = "", False
    for line in text.splitlines():
        name, _, word = line.rpartition(" ")
        if name == token and _is_status(word):
            return StatusReport(int(word), remark, interrupted)
        interrupted |= name == token and word == _INTERRUPTED
        about_an_attempt = name.count(".") == 2 and (_is_status(word) or word == _INTERRUPTED)
        remark = "" if about_an_attempt else line
    return StatusReport(None, remark, interrupted)


def reported_tokens(text: str) -> list[Token]:
    """The attempts whose exit status a status file tells."""
    lines = (line.rpartition(" ") for line in text.splitlines())
    found = [Token.parse(name) for name, _, word in lines if _is_status(word)]
    return [token for token in found if token is not None]


def _is_status(word: str) -> bool:
    return word.isascii() and word.isdigit()


# What that means


class ShellExit(NamedTuple):
    """How a command ended: by an exit code, by a signal, or not at all because of `error`."""

    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None


def interpret(report: StatusReport) -> ShellExit:
    """How the command ended whose status is reported.

    Shells report a signal as 128 + its number, with a remark but for SIGINT and SIGPIPE: those stay the exit statuses
    130 and 141, which `exit` could have given.
    """
    if report.status is None:
        return ShellExit(error=f"cannot start: {report.remark}") if report.remark else ShellExit()
    if report.status > 128 and report.remark:
        return ShellExit(signal=report.status - 128)
    return ShellExit(report.status)


def interpret_child(returncode: int, report: StatusReport) -> ShellExit:
    """The same where the outer shell was our child and ended with `returncode`: negative by that signal."""
    if returncode < 0:
        return ShellExit(signal=-returncode)
    if report.status is None and not report.remark:  # on a full disk the shell could not write its line
        return ShellExit(returncode)
    return interpret(report)
