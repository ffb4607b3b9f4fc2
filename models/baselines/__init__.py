"""Single methods that the served lists are measured against, each in its strongest simple form.

They keep whole matrices, where the recommender keeps bounded rows: fair opponents, not for serving.
"""
