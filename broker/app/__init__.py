"""The application: reads configuration, sets an exchange up and wires the adapters to the core."""
