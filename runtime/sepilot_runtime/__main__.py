"""`python -m sepilot_runtime VERB …`."""

from sepilot_runtime.base.safe_path import leave_out_working_directory

leave_out_working_directory()

from sepilot_runtime.cli import main  # noqa: E402

raise SystemExit(main())
