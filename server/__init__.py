"""What a session and a turn are: the domain, the agent, the stores and the command line."""
