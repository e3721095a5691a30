"""A run's JSON as one page that needs nothing else: tables and plots, offline."""
