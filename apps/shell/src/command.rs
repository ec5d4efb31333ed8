//! The commands.

use crate::{listing, number, revocation};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use libos_posix::descriptor::{Descriptors, OUTPUT};
use libos_posix::files::{self, FileError, Kind, Tree};
use libos_posix::{Start, println};

const HELP: &str = "\
help                    this list
ps                      the environments
free                    the frames, by owner
slices                  the positions of each CPU
filters                 the packet filters
ls [PATH]               a directory of the boot archive's files
cat PATH                a file
revoke NAME N [MS]      ask a program for N frames, with MS milliseconds of notice
exit [CODE]             end";

/// What became of a command.
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// It could not be done, and that was said.
    Failed,
    /// The shell is to end.
    Exit(u64),
}

/// The files that can be named and what is open.
pub(crate) struct Shell<'a> {
    tree: Tree<'a>,
    descriptors: Descriptors<'a>,
}

impl Shell<'static> {
    pub(crate) fn new(start: &Start<'_>) -> Result<Self, FileError> {
        Ok(Self { tree: files::boot_files(start)?, descriptors: Descriptors::default() })
    }
}

impl<'a> Shell<'a> {
    pub(crate) fn descriptors(&mut self) -> &mut Descriptors<'a> {
        &mut self.descriptors
    }

    /// Executes a line. The console shows whole lines only, so the command is repeated before what
    /// it prints.
    pub(crate) fn execute(&mut self, line: &str) -> Outcome {
        let words: Vec<_> = line.split_whitespace().collect();
        let Some((&command, arguments)) = words.split_first() else { return Outcome::Done };
        println!("$ {line}");
        let result = match (command, arguments) {
            ("help", []) => {
                println!("{HELP}");
                Ok(())
            }
            ("ps", []) => listing::environments(),
            ("free", []) => listing::frames(),
            ("slices", []) => listing::slices(),
            ("filters", []) => listing::filters(),
            ("ls", []) => self.list("/"),
            ("ls", [path]) => self.list(path),
            ("cat", [path]) => self.print(path),
            ("revoke", [name, count]) => revocation::ask(name, count, None),
            ("revoke", [name, count, notice]) => revocation::ask(name, count, Some(notice)),
            ("exit", []) => return Outcome::Exit(0),
            ("exit", [code]) => match number(code) {
                Ok(code) => return Outcome::Exit(code),
                Err(error) => Err(error),
            },
            _ => Err(String::from("not a command; try help")),
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => {
                println!("{command}: {error}");
                Outcome::Failed
            }
        }
    }

    fn list(&self, path: &str) -> Result<(), String> {
        if let Kind::File(length) = self.tree.kind(path).map_err(|error| error.to_string())? {
            println!("{length:>10}  {path}");
            return Ok(());
        }
        for entry in self.tree.list(path).map_err(|error| error.to_string())? {
            match entry.kind {
                Kind::File(length) => println!("{length:>10}  {}", entry.name),
                Kind::Directory => println!("{:>10}  {}/", "", entry.name),
            }
        }
        Ok(())
    }

    fn print(&mut self, path: &str) -> Result<(), String> {
        let open = &mut self.descriptors;
        let file = open.open(&self.tree, path).map_err(|error| error.to_string())?;
        let mut bytes = [0; 512];
        let mut last = b'\n';
        let result = loop {
            match open.read(file, &mut bytes) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    last = bytes[count - 1];
                    if let Err(error) = open.write(OUTPUT, &bytes[..count]) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        if last != b'\n' {
            println!();
        }
        result.and(open.close(file)).map_err(|error| error.to_string())
    }
}
