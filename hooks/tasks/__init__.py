"""What kind of work a request is: rules, signals, a trained classifier, and their order."""
