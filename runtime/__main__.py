"""`python runtime VERB …`: the runtime folder copied alone to a device, with nothing installed but what it imports."""

from sepilot_runtime.cli import main

raise SystemExit(main())
