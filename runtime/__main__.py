"""`python runtime VERB …`: the runtime folder copied alone to a device, nothing installed but its three dependencies."""

from sepilot_runtime.cli import main

raise SystemExit(main())
