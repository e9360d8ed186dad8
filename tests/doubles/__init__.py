"""Stand-ins for what cannot be had in a test, each checked against the real thing where there is one."""
