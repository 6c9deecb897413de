"""Shadow comparison: a share of live requests is sent to another group too, after the answer.

It has a dollar cap of its own in the ledger, and every send an entry of its own. What comes of it
are rows in the profile's format (`rows`). The live request is neither delayed nor changed: its body
is copied, and everything else happens in the background (`comparer`), from a bounded queue.
"""
