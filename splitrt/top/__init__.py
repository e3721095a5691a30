"""A live view of a server or a device, from the text that it gives to Prometheus."""
