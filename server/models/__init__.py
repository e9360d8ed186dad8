"""How models are reached: one protocol, and LiteLLM, fenced code and rehearsals behind it."""
