"""splitrt: one model in two places."""
