"""The demo: the router at work on a dozen simulated keys, on a stage that leaves nothing behind."""
