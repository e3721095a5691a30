"""From a recipe and data to a bundle: train whole, distil the bottleneck, calibrate, export."""
