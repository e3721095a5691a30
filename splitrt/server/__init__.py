"""Server side: gateway, admission, batcher, worker, tail pools. Never imports the device side."""
