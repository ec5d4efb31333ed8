//! The archive in the boot module: a ustar file that holds the manifest, the programs and the
//! files that the programs brought along.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use init::manifest::{MANIFEST_PATH, Manifest};
use tar::{Builder, EntryType, Header};

use crate::elf;
use crate::workspace::Source;

/// Makes the archive: `manifest`, `bin/NAME` for every program, stripped, `files/...`, and the
/// `crafted` files by their path, as they are. The same contents give the same bytes.
///
/// # Errors
/// A file cannot be read, is no program, or two programs bring along different files of one path.
pub fn make(
    manifest: &Manifest,
    programs: &BTreeMap<String, PathBuf>,
    sources: &[&Source],
    crafted: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<u8>> {
    let mut contents = crafted.clone();
    contents
        .insert(MANIFEST_PATH.to_owned(), manifest.encode().context("cannot encode the manifest")?);
    for (name, path) in programs {
        let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let stripped = elf::strip(&file).with_context(|| format!("program {}", path.display()))?;
        contents.insert(format!("bin/{name}"), stripped);
    }
    for source in sources {
        for path in &source.contract.files {
            let path = source.folder.join(path);
            collect(&path, "files", &mut contents)
                .with_context(|| format!("files of program `{}`", source.name))?;
        }
    }
    let mut builder = Builder::new(Vec::new());
    for (path, bytes) in &contents {
        let mut header = Header::new_ustar();
        header.set_path(path).with_context(|| format!("path {path}"))?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, bytes.as_slice())?;
    }
    Ok(builder.into_inner()?)
}

/// Takes a file as `prefix/NAME`, and of a folder what is in it as `prefix/...`.
fn collect(path: &Path, prefix: &str, contents: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let kind = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if kind.is_dir() {
        for entry in
            fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?
        {
            let entry = entry?.path();
            let name = name(&entry)?;
            let prefix =
                if entry.is_dir() { format!("{prefix}/{name}") } else { prefix.to_owned() };
            collect(&entry, &prefix, contents)?;
        }
        return Ok(());
    }
    ensure!(kind.is_file(), "{} is neither a file nor a folder", path.display());
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let place = format!("{prefix}/{}", name(path)?);
    match contents.get(&place) {
        Some(other) if *other != bytes => bail!("two different files want to be {place}"),
        _ => contents.insert(place, bytes),
    };
    Ok(())
}

fn name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{} has no name in UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::Stub;
    use crate::workspace::Contract;
    use std::io::Read;

    fn source(folder: &Path, files: &[&str]) -> Source {
        let files = files.iter().map(PathBuf::from).collect();
        Source {
            name: "web".into(),
            package: "web".into(),
            folder: folder.to_owned(),
            contract: Contract { files, ..Contract::default() },
        }
    }

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.insert(entry.path().unwrap().to_str().unwrap().to_owned(), bytes);
        }
        found
    }

    #[test]
    fn everything_has_its_place() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("tree/deep")).unwrap();
        fs::write(folder.path().join("tree/a.txt"), "a").unwrap();
        fs::write(folder.path().join("tree/deep/b.txt"), "b").unwrap();
        fs::write(folder.path().join("c.txt"), "c").unwrap();
        let elf = Stub::default().elf();
        fs::write(folder.path().join("web"), &elf).unwrap();
        let programs = BTreeMap::from([("web".to_owned(), folder.path().join("web"))]);
        let source = source(folder.path(), &["tree", "c.txt"]);
        let manifest = Manifest { seed: 5, ..Manifest::default() };
        let crafted = BTreeMap::from([("bin/odd".to_owned(), b"no program".to_vec())]);
        let archive = make(&manifest, &programs, &[&source, &source], &crafted).unwrap();
        let found = unpack(&archive);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["bin/odd", "bin/web", "files/a.txt", "files/c.txt", "files/deep/b.txt", "manifest"]
        );
        assert_eq!(Manifest::decode(&found["manifest"]), Ok(manifest));
        assert_eq!(elf::parse(&found["bin/web"]).unwrap(), elf::parse(&elf).unwrap());
    }

    #[test]
    fn two_files_of_one_path_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (side, text) in [("left", "1"), ("right", "2")] {
            fs::create_dir(folder.path().join(side)).unwrap();
            fs::write(folder.path().join(side).join("a"), text).unwrap();
        }
        let make = |files: &[&str]| {
            let (none, crafted) = (BTreeMap::new(), BTreeMap::new());
            make(&Manifest::default(), &none, &[&source(folder.path(), files)], &crafted)
        };
        assert!(make(&["left", "right"]).is_err());
        assert!(make(&["left", "no-such-file"]).is_err());
        assert!(make(&["left"]).is_ok());
    }
}
