#!/usr/bin/env bash
# Runs a command, shows its output, and ends it with one line: N passed, N failed.
# Counts Rust tests and the lab's own counts. The command's exit status is passed on, and a command that
# failed without a failed test (a build, a lint, a guest that did not boot) counts as one failure.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
awk -v status="$status" '
  /^test result: / { passed += $4; failed += $6 }
  /[0-9]+ passed, [0-9]+ failed$/ { passed += $(NF - 3); failed += $(NF - 1) }
  END {
    if (status != 0 && failed == 0) failed = 1
    printf "%d passed, %d failed\n", passed, failed
  }' "$log"
exit "$status"
