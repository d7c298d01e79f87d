//! Every crate that AxHV is built from has a licence that lets it be shipped in a product.

use std::process::Command;

/// Licences under which a crate can be linked into a product: they ask to be named, and the MPL for changes to the crate itself.
const ALLOWED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "MPL-2.0+",
    "MulanPSL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression, of `OR`, `AND`, the old `/` and parentheses, can be met by what is allowed.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.trim();
    if let Some(parts) = split(expression, " AND ") {
        return parts.iter().all(|part| is_allowed(part));
    }
    for either in [" OR ", "/"] {
        if let Some(parts) = split(expression, either) {
            return parts.iter().any(|part| is_allowed(part));
        }
    }
    match expression
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        Some(inner) => is_allowed(inner),
        None => ALLOWED.contains(&expression),
    }
}

/// The parts between operators that stand outside parentheses; `None` if there is no such operator.
fn split<'a>(expression: &'a str, operator: &str) -> Option<Vec<&'a str>> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && at >= start && expression[at..].starts_with(operator) => {
                parts.push(&expression[start..at]);
                start = at + operator.len();
            }
            _ => {}
        }
    }
    (!parts.is_empty()).then(|| {
        parts.push(&expression[start..]);
        parts
    })
}

#[test]
fn expressions_are_understood() {
    assert!(
        is_allowed("MIT OR Apache-2.0")
            && is_allowed("MIT/Apache-2.0")
            && is_allowed("GPL-3.0-or-later OR Apache-2.0 OR MulanPSL-2.0")
    );
    assert!(
        is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0")
            && is_allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0")
    );
    assert!(
        !is_allowed("GPL-3.0")
            && !is_allowed("MIT AND GPL-3.0")
            && !is_allowed("(MIT OR Zlib) AND GPL-3.0")
            && !is_allowed("")
    );
}

#[test]
fn all_crates_may_be_shipped() {
    // Of crates for other systems, which no build needs, cargo fetches those that are not here.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(system_tests::repository("."))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    assert!(packages.len() > 50);
    let refused: Vec<_> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or_default()))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    assert!(
        refused.is_empty(),
        "not on the list of allowed licences:\n{}",
        refused.join("\n")
    );
}
