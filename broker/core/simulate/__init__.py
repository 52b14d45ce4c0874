"""Simulation: what a change of the rulebook would do, told from what was recorded, what is stored, and what could be."""
