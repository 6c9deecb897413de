"""Makes the Grafana dashboard of `docs/monitoring`.

    python -m scripts.monitoring            writes it
    python -m scripts.monitoring --check    says whether it is current; exit code 1 if not

Prometheus' rules beside it are written by hand. Nothing of this is part of the proxy.
"""
