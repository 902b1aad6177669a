"""The only folder that knows users, processes and networks: command line, settings, doctor."""
