//! The documentation of the ABI says what its definition says.

use std::fs;

use qemu::reference::{PLACE, is_current, write};
use qemu::workspace::Workspace;

#[test]
fn the_documentation_is_current() {
    let root = Workspace::load().unwrap().root;
    assert!(is_current(&root).unwrap(), "{PLACE} is stale: cargo xtask abi");
}

#[test]
fn a_stale_documentation_is_noticed() {
    let folder = std::env::temp_dir().join(format!("stale-abi-{}", std::process::id()));
    fs::create_dir_all(folder.join("doc")).unwrap();
    write(&folder).unwrap();
    assert!(is_current(&folder).unwrap());
    let text = fs::read_to_string(folder.join(PLACE)).unwrap();
    fs::write(folder.join(PLACE), text.replacen('0', "1", 1)).unwrap();
    assert!(!is_current(&folder).unwrap());
    fs::remove_file(folder.join(PLACE)).unwrap();
    assert!(is_current(&folder).is_err());
    fs::remove_dir_all(folder).unwrap();
}
