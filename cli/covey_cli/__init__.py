"""The command `covey`, also `kubectl covey`: what people run by hand."""
