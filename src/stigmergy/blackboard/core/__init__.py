"""The pure core: what decides, what is decided, and what follows from it. No clock, no chance, no input or output."""
