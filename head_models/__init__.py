"""Device halves, one module a family. Found through the entry points `splitrt.head_models`."""
