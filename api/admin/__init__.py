"""The administrator's commands: seed, verify, API keys."""
