"""Datasets: strict reading, registration, the supervision guard, mappers and loaders."""
