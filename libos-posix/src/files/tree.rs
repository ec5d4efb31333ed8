//! The tree of files in an archive.

use crate::files::path::components;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use tar_no_std::TarArchiveRef;

/// Why a file or a directory cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileError {
    /// The bytes are not an archive in the format ustar.
    BadArchive,
    /// There is nothing with this path.
    NotFound,
    /// The path leads to a directory, where a file is needed.
    IsDirectory,
    /// The path leads to a file, where a directory is needed.
    NotDirectory,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadArchive => "not an archive",
            Self::NotFound => "no such file or directory",
            Self::IsDirectory => "is a directory",
            Self::NotDirectory => "not a directory",
        })
    }
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The name, without the path before it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

#[derive(Debug)]
enum Node<'a> {
    File(&'a [u8]),
    Directory(BTreeMap<String, Node<'a>>),
}

/// A tree of files, whose contents are borrowed from an archive.
///
/// An archive names files in any order, and one name twice: the later one counts. Where one name is
/// a file here and a directory there, the one that came first stays, and what doesn't fit is left
/// out, as is what has no name in UTF-8.
#[derive(Debug)]
pub struct Tree<'a> {
    root: Node<'a>,
}

impl<'a> Tree<'a> {
    /// Reads an archive in the format ustar.
    ///
    /// # Errors
    /// [`FileError::BadArchive`].
    pub fn new(archive: &'a [u8]) -> Result<Self, FileError> {
        let archive = TarArchiveRef::new(archive).map_err(|_| FileError::BadArchive)?;
        let mut root = Node::Directory(BTreeMap::new());
        for entry in archive.entries() {
            if let Ok(path) = entry.filename().as_str() {
                root.insert(&components(path), entry.data());
            }
        }
        Ok(Self { root })
    }

    /// The tree below one of its directories; an empty one if there is no such directory.
    pub fn below(mut self, directory: &str) -> Self {
        for name in components(directory) {
            let Node::Directory(mut names) = self.root else { break };
            self.root = names.remove(name).unwrap_or(Node::Directory(BTreeMap::new()));
        }
        match self.root {
            Node::Directory(_) => self,
            Node::File(_) => Self { root: Node::Directory(BTreeMap::new()) },
        }
    }

    /// The contents of a file.
    ///
    /// # Errors
    /// [`FileError::NotFound`], [`FileError::NotDirectory`], [`FileError::IsDirectory`].
    pub fn open(&self, path: &str) -> Result<&'a [u8], FileError> {
        match self.find(path)? {
            Node::File(contents) => Ok(contents),
            Node::Directory(_) => Err(FileError::IsDirectory),
        }
    }

    /// The names in a directory, in order.
    ///
    /// # Errors
    /// [`FileError::NotFound`], [`FileError::NotDirectory`].
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, FileError> {
        let Node::Directory(names) = self.find(path)? else { return Err(FileError::NotDirectory) };
        let entry =
            |(name, node): (&String, &Node<'_>)| Entry { name: name.clone(), kind: node.kind() };
        Ok(names.iter().map(entry).collect())
    }

    /// What a path leads to.
    ///
    /// # Errors
    /// [`FileError::NotFound`], [`FileError::NotDirectory`].
    pub fn kind(&self, path: &str) -> Result<Kind, FileError> {
        self.find(path).map(Node::kind)
    }

    fn find(&self, path: &str) -> Result<&Node<'a>, FileError> {
        let mut node = &self.root;
        for name in components(path) {
            let Node::Directory(names) = node else { return Err(FileError::NotDirectory) };
            node = names.get(name).ok_or(FileError::NotFound)?;
        }
        Ok(node)
    }
}

impl<'a> Node<'a> {
    fn kind(&self) -> Kind {
        match self {
            Self::File(contents) => Kind::File(contents.len() as u64),
            Self::Directory(_) => Kind::Directory,
        }
    }

    fn insert(&mut self, path: &[&str], contents: &'a [u8]) {
        let Some((last, directories)) = path.split_last() else { return };
        let mut node = self;
        for name in directories {
            let Self::Directory(names) = node else { return };
            let empty = || Self::Directory(BTreeMap::new());
            node = names.entry(String::from(*name)).or_insert_with(empty);
        }
        let Self::Directory(names) = node else { return };
        match names.get(*last) {
            Some(Self::Directory(_)) => {}
            _ => {
                names.insert(String::from(*last), Self::File(contents));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, contents) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            // Written by hand, since the library refuses paths that a hostile archive may have.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, *contents).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn paths_lead_to_files_and_directories() {
        let long = vec![7; 5000];
        let bytes =
            archive(&[("files/motd", b"hello"), ("files/d/long", &long), ("manifest", b"")]);
        let tree = Tree::new(&bytes).unwrap();
        assert_eq!(tree.open("/files/motd"), Ok(b"hello".as_slice()));
        assert_eq!(tree.open("files/./d/../d//long"), Ok(long.as_slice()));
        assert_eq!(tree.open("files"), Err(FileError::IsDirectory));
        assert_eq!(tree.open("files/none"), Err(FileError::NotFound));
        assert_eq!(tree.open("manifest/x"), Err(FileError::NotDirectory));
        assert_eq!(tree.kind("/files/d/long"), Ok(Kind::File(5000)));
        let names = |path| -> Vec<_> {
            tree.list(path).unwrap().into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names("/"), ["files", "manifest"]);
        assert_eq!(names("/files/"), ["d", "motd"]);
        assert_eq!(tree.list("manifest"), Err(FileError::NotDirectory));
    }

    #[test]
    fn a_tree_can_start_at_any_directory() {
        let bytes = archive(&[("files/d/x", b"x"), ("manifest", b"")]);
        let below = |path| Tree::new(&bytes).unwrap().below(path);
        assert_eq!(below("files").open("d/x"), Ok(b"x".as_slice()));
        assert_eq!(below("/files/d/").open("/x"), Ok(b"x".as_slice()));
        for empty in ["none", "manifest", "manifest/x", "files/d/x/y"] {
            assert_eq!(below(empty).list("/"), Ok(Vec::new()), "{empty}");
        }
    }

    #[test]
    fn hostile_names_stay_inside_and_conflicts_are_decided() {
        let bytes = archive(&[
            ("../../etc/passwd", b"x"),
            ("a", b"file"),
            ("a/b", b"below a file"),
            ("d/e", b"first"),
            ("d/e", b"second"),
            ("d", b"over a directory"),
            ("..", b"nothing"),
        ]);
        let tree = Tree::new(&bytes).unwrap();
        assert_eq!(tree.open("etc/passwd"), Ok(b"x".as_slice()));
        assert_eq!(tree.open("a"), Ok(b"file".as_slice()));
        assert_eq!(tree.open("a/b"), Err(FileError::NotDirectory));
        assert_eq!(tree.open("d/e"), Ok(b"second".as_slice()));
        assert_eq!(tree.list("/").unwrap().len(), 3);
    }

    #[test]
    fn truncated_archives_are_refused_or_read_at_every_length() {
        let bytes = archive(&[("one", &[1; 700]), ("two", &[2; 10])]);
        for length in 0..bytes.len() {
            if let Ok(tree) = Tree::new(&bytes[..length]) {
                assert_eq!(tree.open("one"), Ok([1; 700].as_slice()));
            }
        }
    }

    fn walk(tree: &Tree<'_>, path: &str) {
        for entry in tree.list(path).unwrap() {
            let path = std::format!("{path}/{}", entry.name);
            match entry.kind {
                Kind::File(length) => assert_eq!(tree.open(&path).unwrap().len() as u64, length),
                Kind::Directory => walk(tree, &path),
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = Tree::new(&bytes);
        }

        #[test]
        fn no_damage_makes_the_reader_fail(
            damage in proptest::collection::vec((0..4096_usize, any::<u8>()), 1..8),
            mend in any::<bool>(),
        ) {
            let mut bytes = archive(&[("files/motd", b"hello"), ("x", &[3; 600])]);
            let length = bytes.len();
            for (place, byte) in damage {
                bytes[place % length] = byte;
            }
            if mend {
                // With a right checksum the damage gets past the first check.
                let header = tar::Header::from_byte_slice(&bytes[..512]).clone();
                let mut header = header;
                header.set_cksum();
                bytes[..512].copy_from_slice(header.as_bytes());
            }
            if let Ok(tree) = Tree::new(&bytes) {
                walk(&tree, "");
            }
        }
    }
}
