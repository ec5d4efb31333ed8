//! Return addresses to function names and lines, from the line tables that stay on the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use addr2line::fallible_iterator::FallibleIterator;
use addr2line::{Loader, demangle_auto};

/// Which unstripped file belongs to which label.
pub type Executables = BTreeMap<String, PathBuf>;

/// One line for each frame, inlined functions included, of a place and its callers. An address without line tables is shown
/// as a number; a missing file is said once.
#[must_use]
pub fn symbolise(executable: Option<&Path>, root: &Path, addresses: &[u64]) -> Vec<String> {
    let Some(path) = executable else {
        return addresses.iter().map(|address| format!("{address:#x}")).collect();
    };
    let loader = match Loader::new(path) {
        Ok(loader) => loader,
        Err(error) => return vec![format!("no line tables in {}: {error}", path.display())],
    };
    let mut lines = Vec::new();
    for (depth, &address) in addresses.iter().enumerate() {
        // The first address is where it happened. The others are return addresses: of the
        // instruction after the call, which may belong to the next line.
        let call = if depth == 0 { address } else { address.saturating_sub(1) };
        // Line tables alone name only functions that were inlined; the symbols name the others.
        let symbol =
            loader.find_symbol(call).map_or("?".into(), |name| demangle_auto(name.into(), None));
        let before = lines.len();
        if let Ok(frames) = loader.find_frames(call) {
            // A table that breaks off still yields the frames before the break.
            let _ = frames.for_each(|frame| {
                let function =
                    frame.function.as_ref().and_then(|function| function.demangle().ok());
                let name = function.unwrap_or_else(|| symbol.clone());
                let place = frame.location.map_or_else(String::new, |location| {
                    let file = location.file.unwrap_or("?");
                    let file = Path::new(file).strip_prefix(root).unwrap_or(Path::new(file));
                    format!(" at {}:{}", file.display(), location.line.unwrap_or(0))
                });
                lines.push(format!("{name}{place}"));
                Ok(())
            });
        }
        if lines.len() == before {
            lines.push(format!("{symbol} ({address:#x})"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address in this function, as a call to it from elsewhere would find it.
    #[inline(never)]
    fn landmark() -> u64 {
        landmark as fn() -> u64 as usize as u64
    }

    #[test]
    fn an_address_of_this_test_has_a_name_and_a_line() {
        // The test runs at a random base; the distance to a symbol of the file gives it away.
        let path = std::env::current_exe().unwrap();
        let loader = Loader::new(&path).unwrap();
        let file = std::fs::read(&path).unwrap();
        let parsed = object::File::parse(&*file).unwrap();
        use object::{Object, ObjectSymbol};
        let symbol = parsed
            .symbols()
            .find(|symbol| symbol.name().is_ok_and(|name| name.contains("landmark")));
        let address = symbol.unwrap().address();
        assert!(loader.find_location(address).unwrap().is_some());
        assert!(landmark() > 0);
        let lines = symbolise(Some(&path), Path::new("/nowhere"), &[address, address + 1]);
        assert_eq!(lines[0], lines[1], "a place and the return to it");
        assert!(lines[0].contains("landmark") && lines[0].contains("backtrace.rs:"), "{lines:?}");
    }

    #[test]
    fn what_cannot_be_found_is_shown_as_it_came() {
        assert_eq!(symbolise(None, Path::new("/"), &[16]), ["0x10"]);
        let missing = symbolise(Some(Path::new("/no/such/file")), Path::new("/"), &[16]);
        assert!(missing[0].contains("/no/such/file"));
    }
}
