"""Where endpoints, workers, tasks and deliveries are kept: one interface, one implementation per database."""
