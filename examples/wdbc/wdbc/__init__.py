"""Malignant or benign: the Wisconsin diagnostic breast cancer data, as a Covey program."""
