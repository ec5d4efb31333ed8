//! Read-only files: the tree of paths that the boot archive holds.
//!
//! The archive is somebody else's memory, which this program may read. It is checked once, when the
//! tree is made; after that a file is a slice.

mod file;
mod path;
mod tree;

pub use file::{BadSeek, OpenFile, Whence};
pub use path::components;
pub use tree::{Entry, FileError, Kind, Tree};

use exo_user::Start;

/// Where the boot archive has the files that programs ask for in their contracts.
const FILES: &str = "files";

/// The files of the boot archive, as the contracts of the programs name them.
///
/// # Errors
/// [`FileError::BadArchive`].
pub fn boot_files(start: &Start<'_>) -> Result<Tree<'static>, FileError> {
    let archive = crate::memory::map_archive(start).map_err(|_| FileError::BadArchive)?;
    Ok(Tree::new(archive)?.below(FILES))
}
