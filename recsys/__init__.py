"""The recommender: joins the wire and the maths. `recsys/pipeline.py` is the page to read first."""

__version__ = "0.1.0"
