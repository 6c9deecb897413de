"""The trained router in the request path: which requests the cheaper tier answers as well.

    artefact   the file that training and calibration write: weights, promises, what it is about
    score      a text and a task type in, the predicted gain of the strong tier out
    loading    the artefact beside the live configuration: usable, stale or unreadable, and why
    verdict    what the router says about one request, and why
    counts     histograms of what was scored here, for the drift tests
    drift      whether live requests still look like those that were profiled

Training and calibrating are in `scripts/router`: nothing here needs more than the standard library
and Pydantic.
"""
