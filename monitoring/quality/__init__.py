"""How good the answers are: feedback and its sums, estimates without labels, metrics of the team's own.

answers.py    what a version may answer, and whether a label is one of its classes or a number
reading.py    feedback from JSON, JSON lines or CSV, row by row
feedback.py   receive: keep the labels, say which were new, changed, unknown or wrong
matching.py   bring labels and predictions together and count them, exactly once
scoring.py    count what was answered, labelled or not, for the estimates
baselines.py  how good a version is known to be, and how its scores are calibrated
live.py       quality of any window from the hours that were counted
harm.py       is it worse than it was? The finding for the incident
metrics/      metrics of one's own: formulas, and Python in the sandbox
"""
