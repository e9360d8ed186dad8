"""Where everything is kept: the log in Postgres, hot state in Redis, bytes in an object store."""
