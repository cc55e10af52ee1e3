"""What an endpoint's `image` runs as: one module per driver, all with the interface of `base`."""
