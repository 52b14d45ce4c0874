"""Records on their way in and out: CloudEvents, labels, what the broker stamps."""
