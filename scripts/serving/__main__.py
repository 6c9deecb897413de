"""`python -m scripts.serving`: the Python half of `./scripts/serve`."""

import sys

from scripts.serving.options import parse

if __name__ == "__main__":
    options = parse(sys.argv[1:])
    # After the options, so that --help does not wait for the libraries.
    from scripts.serving.run import main

    sys.exit(main(options))
