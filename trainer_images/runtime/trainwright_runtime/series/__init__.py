"""What recipes for time series share: settings, windows that leak nothing, scores beside a naive forecast, artifact and report.

Nothing here knows a framework; arrays are numpy's, tables are pandas'.
"""
