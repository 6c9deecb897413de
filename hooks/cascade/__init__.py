"""Cascades and gates at work: cheap first, judge, go up the chain, or withhold the answer.

`plan` says beforehand what may be sent and what all of it may cost, `opening` gets the hold for
it, `steps` sends and judges until it is decided what the client gets.
"""
