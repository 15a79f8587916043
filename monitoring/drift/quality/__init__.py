"""Quality from additive counts: plain numpy, no scipy, so that the web process may read it too.

scores.py       ScoreCounts: histograms of what a classifier answered, per hour, whether labelled or not
outcomes.py     ClassOutcomes, NumberOutcomes: sufficient statistics of labelled rows; they add, and subtract
intervals.py    Wilson, normal and logit intervals
metrics.py      accuracy, F1, AUC, log loss, MAE, RMSE, R2 of such counts, each with its interval
calibration.py  isotonic regression, and whether it lowers the calibration error
cbpe.py         estimated performance without labels, from ScoreCounts or from rows
"""
