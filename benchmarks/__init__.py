"""What Farebox costs in time: as ratios, with and without it in one run. See README.md here."""
