"""The store that is a PostgreSQL database, which hosts share."""
