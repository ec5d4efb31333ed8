//! The documentation of the ABI, which is printed from its definition.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where the documentation lies in the workspace.
pub const PLACE: &str = "doc/abi.md";

/// Whether the file in the workspace at `root` says what the definitions say.
///
/// # Errors
/// The file cannot be read.
pub fn is_current(root: &Path) -> Result<bool> {
    let path = root.join(PLACE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text == exo_abi::document().to_string())
}

/// Writes the file.
///
/// # Errors
/// The file cannot be written.
pub fn write(root: &Path) -> Result<()> {
    let path = root.join(PLACE);
    fs::write(&path, exo_abi::document().to_string())
        .with_context(|| format!("cannot write {}", path.display()))
}
