"""Language models that answer for agents: one protocol, and what implements it."""
