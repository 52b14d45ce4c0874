"""Why something was decided: the rules that held, the data that they read, and what was missing."""
