//! Paths: names between slashes.

use alloc::vec::Vec;

/// The names in a path from the root: empty names and `.` are left out, and `..` goes up one step,
/// at the root none. So no path leads out of the tree.
pub fn components(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            _ => names.push(name),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out() {
        assert_eq!(components("/a//b/./c/"), ["a", "b", "c"]);
        assert_eq!(components("../../a/../b"), ["b"]);
        assert!(components("/..").is_empty() && components("").is_empty());
    }
}
