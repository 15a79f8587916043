"""The demo: three real models through the doors a user has, from push to drift alert (``make demo``)."""
