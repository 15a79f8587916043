"""The drift engine: plain numpy and scipy, arrays in, numbers out. No Django, no Evidently, no pandas.

    bins.py       ColumnBins: how one column is cut into bins, fitted once on the reference
    tally.py      Tally: exact additive counts of one column over any stretch of rows
    values.py     raw JSON values by family: number, text, truth value, missing, something else
    sketch.py     a small additive histogram of magnitudes (quantiles, unit changes)
    psi.py kl.py  divergences over counts
    limits.py     from how many rows on a fixed PSI limit may speak
    policy.py     what the owner chose, and how the false-alarm budget is spread
    multivariate.py  do the columns move together as before? on a bounded sample of raw rows
    distances.py  Jensen-Shannon, Hellinger, Wasserstein (from samples or from tallies)
    tests.py      chi-square, KS, rank sum: p-values that hold far out in the tail
    verdict.py    judge(): significance and effect size -> ok / learning / warning / drift, with a sentence
    causes.py     likely_causes(): what probably happened, by rules
    since.py      change_point(): the hour since which it moved

`bins`, `tally`, `sketch`, `psi`, `kl` and `policy` need numpy only, so counting is light; scipy is imported by the rest.
"""
