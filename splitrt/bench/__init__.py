"""The measured claims: one module a claim, each with a table, JSON and a plot; and the demo, which measures too."""
