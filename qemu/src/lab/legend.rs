//! How things look: a colour for each program, a shape for each event.

use crate::lab::timeline::What;

/// Colours that are told apart by most eyes: Okabe and Ito, "Color universal design", 2008, without
/// yellow and black.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

/// The colour of the program with this number.
#[must_use]
pub fn colour(program: usize) -> &'static str {
    COLOURS[program % COLOURS.len()]
}

/// How an event is drawn and what it is called.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The event.
    pub what: What,
    /// An SVG path around 0,0, some ten pixels wide.
    pub path: &'static str,
    /// Its colour.
    pub colour: &'static str,
    /// Whether the path is filled, not only drawn.
    pub filled: bool,
    /// In a few words.
    pub text: &'static str,
}

/// Those that are drawn, in the order of the legend.
pub const MARKS: [Mark; 9] = [
    Mark {
        what: What::Ask,
        path: "M-5,-5 L5,-5 L0,4 Z",
        colour: "#333333",
        filled: true,
        text: "asked: give some back",
    },
    Mark {
        what: What::UpcallAsk,
        path: "M0,-5 L0,5 M-3,-5 L3,-5",
        colour: "#777777",
        filled: false,
        text: "its handler is told of the ask",
    },
    Mark {
        what: What::Surrendered,
        path: "M-4,0 a4,4 0 1,0 8,0 a4,4 0 1,0 -8,0 Z",
        colour: "#009e73",
        filled: true,
        text: "gives some back by choice",
    },
    Mark {
        what: What::Repossessed,
        path: "M-4.5,-4.5 L4.5,4.5 M-4.5,4.5 L4.5,-4.5",
        colour: "#d00000",
        filled: false,
        text: "the kernel takes some by force",
    },
    Mark {
        what: What::UpcallLost,
        path: "M0,-5 L0,5 M-3,5 L3,5",
        colour: "#d00000",
        filled: false,
        text: "its handler is told of a loss",
    },
    Mark {
        what: What::Fault,
        path: "M0,-4 L4,0 L0,4 L-4,0 Z",
        colour: "#e69f00",
        filled: true,
        text: "touches a page that is gone",
    },
    Mark {
        what: What::Returned,
        path: "M-4.5,4 L4.5,4 L0,-4.5 Z",
        colour: "#0072b2",
        filled: false,
        text: "may hold as many as before again",
    },
    Mark {
        what: What::Refused,
        path: "M-4,-4 L4,-4 L4,4 L-4,4 Z",
        colour: "#999999",
        filled: false,
        text: "an ask is refused: its floor",
    },
    Mark {
        what: What::Ended,
        path: "M-4,-5 L-4,5 L4,5 L4,-5 Z",
        colour: "#000000",
        filled: true,
        text: "it has ended",
    },
];

/// How an event is drawn, if it is.
#[must_use]
pub fn mark(what: What) -> Option<&'static Mark> {
    MARKS.iter().find(|mark| mark.what == what)
}
