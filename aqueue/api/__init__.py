"""What an asyncio program uses: a pool with workers, a connection without, and jobs in its own transactions."""
