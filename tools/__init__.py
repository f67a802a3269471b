"""Tools that stand alone: they import nothing of the router."""
