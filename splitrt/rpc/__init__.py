"""The wire: generated code, and the only place that imports it."""
