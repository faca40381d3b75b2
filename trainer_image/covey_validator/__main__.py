"""`python -m covey_validator --config FILE`."""

import sys

from covey_validator.command import main

if __name__ == "__main__":
    sys.exit(main())
