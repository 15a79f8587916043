"""Training a deployment's model again: what begins it, where the candidate comes from, whether it is better, and what is done with it.

``policies`` what people set · ``triggers`` what begins a run, and what keeps it from circles · ``runs`` a run's states and its moves ·
``work`` the job: from one state to the next · ``calling`` the webhook and its tokens · ``training`` a train.py in the sandbox ·
``rows`` the data that is handed out · ``candidates`` which version is the answer · ``measuring`` and ``judging`` whether it is better ·
``releasing`` propose, approve, roll out · ``telling`` who hears of it.
"""
