"""Fetching one commit of somebody else's repository: no checkout, no filter, nothing of it is ever run."""
