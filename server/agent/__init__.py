"""The agent: assemble context, stream a reply, run its tool calls, observe, again, until a reply without a call."""
