//! The commands.

use crate::filters::Added;
use crate::{listing, number, revocation};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use libos_posix::descriptor::{Descriptors, OUTPUT};
use libos_posix::files::{self, FileError, Kind, Tree};
use libos_posix::{Start, println};

/// A command: how it is typed, what it does, and the function that does it with the words behind its
/// name. A new command is one more entry in [`COMMANDS`].
struct Command {
    usage: &'static str,
    about: &'static str,
    run: for<'a, 'b> fn(&'a mut Shell<'b>, &[&str]) -> Result<(), String>,
}

const COMMANDS: &[Command] = &[
    Command { usage: "help", about: "this list", run: |_, _| help() },
    Command { usage: "ps", about: "the environments", run: |_, _| listing::environments() },
    Command { usage: "free", about: "the frames, by owner", run: |_, _| listing::frames() },
    Command { usage: "slices", about: "the positions of each CPU", run: |_, _| listing::slices() },
    Command { usage: "filters", about: "the packet filters", run: |_, _| listing::filters() },
    Command {
        usage: "ls [PATH]",
        about: "a directory of the boot archive's files",
        run: |shell, words| shell.list(words.first().unwrap_or(&"/")),
    },
    Command {
        usage: "cat PATH",
        about: "a file",
        run: |shell, words| shell.print(words.first().ok_or("which file?")?),
    },
    Command {
        usage: "revoke PROGRAM KIND N [--deadline MS]",
        about: "ask a program for N of its frames, slices, filters or rings",
        run: |_, words| revocation::revoke(words),
    },
    Command {
        usage: "filter add 'EXPRESSION' --to PROGRAM",
        about: "lead packets to the first ring of a program",
        run: |shell, words| shell.added.execute(words),
    },
    Command {
        usage: "filter list | remove ID",
        about: "what filters matched; take one out",
        run: |shell, words| shell.added.execute(words),
    },
    Command { usage: "exit [CODE]", about: "end", run: |_, _| Ok(()) },
];

impl Command {
    fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }

    /// How many words may stand behind the name.
    fn most_words(&self) -> usize {
        self.usage.split(' ').count() - 1
    }
}

fn help() -> Result<(), String> {
    for command in COMMANDS {
        println!("{:<38}  {}", command.usage, command.about);
    }
    Ok(())
}

/// What became of a command.
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// It could not be done, and that was said.
    Failed,
    /// The shell is to end.
    Exit(u64),
}

/// The words of a line; what is between quotes is one.
fn words(line: &str) -> Vec<&str> {
    let quotes = line.split(['\'', '"']).enumerate();
    let parts = quotes.map(|(index, part)| (index % 2 == 1, part));
    let mut words = Vec::new();
    for (quoted, part) in parts {
        if quoted { words.push(part) } else { words.extend(part.split_whitespace()) }
    }
    words
}

/// The files that can be named and what is open.
pub(crate) struct Shell<'a> {
    tree: Tree<'a>,
    descriptors: Descriptors<'a>,
    added: Added,
}

impl Shell<'static> {
    pub(crate) fn new(start: &Start<'_>) -> Result<Self, FileError> {
        Ok(Self {
            tree: files::boot_files(start)?,
            descriptors: Descriptors::default(),
            added: Added::default(),
        })
    }
}

impl<'a> Shell<'a> {
    pub(crate) fn descriptors(&mut self) -> &mut Descriptors<'a> {
        &mut self.descriptors
    }

    /// Executes a line. The console shows whole lines only, so the command is repeated before what
    /// it prints.
    pub(crate) fn execute(&mut self, line: &str) -> Outcome {
        let words = words(line);
        let Some((&command, arguments)) = words.split_first() else { return Outcome::Done };
        println!("$ {line}");
        if command == "exit" {
            match arguments.first().map_or(Ok(0), |code| number(code)) {
                Ok(code) => return Outcome::Exit(code),
                Err(error) => {
                    println!("exit: {error}");
                    return Outcome::Failed;
                }
            }
        }
        let known = COMMANDS.iter().find(|known| known.name() == command);
        let result = match known {
            Some(known) if arguments.len() <= known.most_words() => (known.run)(self, arguments),
            Some(known) => Err(String::from(known.usage)),
            None => Err(String::from("not a command; try help")),
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
