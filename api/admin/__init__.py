"""What an administrator does with the command: seed, verify, API keys."""
