"""How a training went, for a reader who has ten seconds: `report.json`, a page that stands alone, and one picture.

Every recipe fills a `Report` with plain lists and dicts; nothing here knows a framework. matplotlib, jinja2 and scikit-learn are
loaded when something is drawn or scored, by the one rank that does it.
"""

from trainwright_runtime.reporting.report import Curve, Importance, Report, files

__all__ = ["Curve", "Importance", "Report", "files"]
