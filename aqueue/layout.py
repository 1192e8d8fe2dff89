"""The names of the files in a store's directory: each stands here once.

A directory store has all of them. A pool on a database keeps the files of its attempts, its lock and its socket in a
directory of the same layout, without a journal.
"""

JOURNAL = "jobs.jsonl"
"""Every change of every job, in order: see `aqueue.store.journal`."""
REWRITTEN = "jobs.new"
"""What a compaction writes, until it takes the journal's place."""
LOCK = "lock"
"""Whoever holds a lock on this file owns the store."""
REGISTRY = "pool.json"
"""Which pool runs: a `PoolInfo`."""
SOCKET = "socket"
"""Where the pool accepts connections, unless the path is too long for a socket."""
OUTPUT = "output"
"""A directory: one file per attempt and stream."""
STATUS = "status"
"""A directory: one file per worker slot of a pool, with the exit statuses of its attempts."""
HOST_ID = "home"
"""A name for this directory that no other host's has."""
WATCHDOG = "guard"
"""The process id of the latest watchdog; called so since version 0.1, whose watchdogs read it too."""


def torn_tail(number: int) -> str:
    """Where an opening keeps what it cuts off the journal's end; `number` keeps one from another."""
    return f"{JOURNAL}.torn-{number}"


def aside(number: int) -> str:
    """The directory in which a repair keeps what it takes out; `number` keeps one from another."""
    return f"aside-{number}"
