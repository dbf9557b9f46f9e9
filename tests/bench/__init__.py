"""What the hot path costs. Figures are printed, not judged, but for bounds that no busy machine passes."""
