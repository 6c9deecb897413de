"""How well task types are found, and how quickly: labelled prompts, the measurement, its report."""
