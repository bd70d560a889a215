"""`python -m sepilot_runtime VERB …`."""

from sepilot_runtime.cli import main

raise SystemExit(main())
