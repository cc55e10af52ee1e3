"""A local implementation of the whole documented API: durable queue, real HTTP workers, webhooks, logs."""
