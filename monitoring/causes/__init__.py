"""Why it drifts, for one check: rows of the log and of the reference brought to ``monitoring.drift.causes``, and what is told of it.

rows.py       a bounded sample of the window, with key, hour and way of calling of each row
effects.py    what each moved column does to the predictions: the same version asked again with it put back
beginning.py  since when, to the row, and which release was near
requests.py   columns that are missing, new or renamed in refused requests
explaining.py all of it for a check, kept in ``check.facts["causes"]``
shown.py      the same for pages and the API, with example rows for those who may see the log
"""
