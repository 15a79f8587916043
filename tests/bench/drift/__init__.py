"""``make bench-drift``: false alarms and detection of ours and of others, on the same windows, into docs/drift.md.

Every rule sees the same reference (at most 5,000 rows, drawn once; NannyML, which learns its limits from chunks of the past, all the
past there is) and the same windows. Windows are drawn from rows that the reference
does not hold. Nothing here is asserted in tests but that the parts run; the figures are facts of one seeded run.
"""
