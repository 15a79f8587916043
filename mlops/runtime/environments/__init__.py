"""Dependency sets: libraries other than Slipway's own that a model runs with. Read, resolved, built locked in, sealed, and never run here."""
