"""The month's end: closing periods, their snapshots, and the figures of a month's report."""
