"""Server halves, one module a family. Found through the entry points `splitrt.tail_models`."""
