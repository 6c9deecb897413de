"""Choosing and governing: what models cost and are worth, what a workload will cost, what is fit.

Everything is made from the policy's three files, LiteLLM's price map and the ledger, so that none
of it can contradict what the proxy does.
"""
