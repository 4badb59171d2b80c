"""Prediction → messages: detections, markers, map grids."""
