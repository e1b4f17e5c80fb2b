//! Rules about shell scripts.

use crate::{File, Finding};

/// A script stops at the first error, says what it is for, and may be run.
pub fn stops_at_errors_and_says_why(file: &File) -> Vec<Finding> {
    if !file.text.starts_with("#!") || file.is_rust() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if !file
        .text
        .lines()
        .nth(1)
        .is_some_and(|line| line.starts_with("# "))
    {
        findings.push(Finding::at(
            &file.path,
            2,
            "the second line must be a comment that says what the script does",
        ));
    }
    if !file.text.lines().any(|line| line == "set -euo pipefail") {
        findings.push(Finding::about(
            &file.path,
            "add `set -euo pipefail`, so that a failing step is not passed over",
        ));
    }
    if !file.executable {
        findings.push(Finding::about(
            &file.path,
            "not executable; run `git update-index --chmod=+x` and `chmod +x` on it",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_goes_on_after_errors_is_found() {
        let mut script = File::new("scripts/a", "#!/usr/bin/env bash\ncd x\n");
        assert_eq!(stops_at_errors_and_says_why(&script).len(), 3);

        script.text = "#!/usr/bin/env bash\n# Does a thing.\nset -euo pipefail\n".to_owned();
        assert_eq!(stops_at_errors_and_says_why(&script).len(), 1);

        script.executable = true;
        assert!(stops_at_errors_and_says_why(&script).is_empty());
        assert!(stops_at_errors_and_says_why(&File::new("README.md", "# Title\n")).is_empty());
    }
}
