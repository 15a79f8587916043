"""Metrics of people's own: a formula over columns, or Python that runs in the sandbox, over a sample of the window's rows.

rows.py         the sample: rows, predictions, what really happened
formulas.py     a formula (monitoring/drift/quality/expressions.py) over it
python_code.py  metric(rows, predictions, actuals) in a runner: no network, no files, bounded time and memory
evaluation.py   one number of one window; each hour for those that are kept
services.py     make, change, delete
"""
