"""Figures of logged runs, a module for each kind: `draw(view, options)` gives a `matplotlib.figure.Figure`."""
