//! The pages: `/` for people, `/state.json` for programs.

use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use libos_net::{Duration, Instant, Reserve};

use crate::connection::Piece;
use crate::http::Status;
use crate::state::{Served, State};

/// The page, with places for the tables as text and for the state.
const PAGE: &str = include_str!("page.html");
/// Where the tables go as text, for readers without scripts.
const TEXT_PLACE: &str = "<!--text-->";
/// Where the state goes, for the script.
const STATE_PLACE: &str = "/*state*/";

/// The most bytes of answers that are on their way: clients that don't take theirs hold no more.
pub const ANSWERS_MAX: usize = 256 * 1024;
/// The length of the state is a multiple of this. That of the text depends on nothing but the
/// number of environments.
const LENGTHS: usize = 4096;
/// How old an answer may be. It bounds the work for any number of requests.
const FRESH: Duration = Duration::from_millis(10);

/// What a path leads to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A page.
    Page {
        /// Its media type.
        content_type: &'static str,
        /// Its pieces, in order.
        body: Vec<Piece>,
    },
    /// There is no such page.
    NotFound,
    /// There is no memory for it until others have taken their answers.
    Busy,
}

/// What a server serves.
pub trait Site {
    /// The page of a path.
    fn answer(&mut self, path: &str, now: Instant) -> Answer;

    /// An answer with this status is on its way.
    fn answered(&mut self, status: Status);

    /// Whether there is no memory for another answer.
    fn is_full(&mut self) -> bool;

    /// What the reserve of frames holds.
    fn reserve(&mut self, _reserve: &Reserve) {}
}

/// The state at one moment, as it is sent.
#[derive(Clone)]
struct Snapshot {
    at: Instant,
    json: Rc<[u8]>,
    text: Rc<[u8]>,
}

/// The kernel's tables as a site.
pub struct Tables {
    read: fn() -> State,
    log: fn(&Served),
    served: Served,
    latest: Option<Snapshot>,
    /// What was made and may still be on its way.
    made: Vec<Weak<[u8]>>,
}

impl Tables {
    /// A site of what `read` returns. `log` is told after each answer.
    pub fn new(read: fn() -> State, log: fn(&Served)) -> Self {
        Self { read, log, served: Served::default(), latest: None, made: Vec::new() }
    }

    /// The state, made anew unless it is fresh. `None`: there is no memory for it.
    fn snapshot(&mut self, now: Instant) -> Option<Snapshot> {
        if let Some(latest) = self.latest.as_ref().filter(|latest| now < latest.at + FRESH) {
            return Some(latest.clone());
        }
        self.latest = None;
        if self.is_full() {
            return None;
        }
        let state = State { web: self.served.clone(), ..(self.read)() };
        // Labels are chosen by strangers. Without `<` no text ends the script element.
        let mut json = serde_json::to_string(&state).ok()?.replace('<', "\\u003c");
        pad(&mut json);
        let (json, text) = (json.into_bytes().into(), text(&state).into_bytes().into());
        let snapshot = Snapshot { at: now, json, text };
        self.made.push(Rc::downgrade(&snapshot.json));
        self.made.push(Rc::downgrade(&snapshot.text));
        self.latest = Some(snapshot.clone());
        Some(snapshot)
    }
}

impl Site for Tables {
    fn answer(&mut self, path: &str, now: Instant) -> Answer {
        if path != "/" && path != "/state.json" {
            return Answer::NotFound;
        }
        let Some(Snapshot { json, text, .. }) = self.snapshot(now) else { return Answer::Busy };
        if path == "/state.json" {
            let content_type = "application/json";
            return Answer::Page { content_type, body: vec![Piece::Made(json)] };
        }
        let fixed = |text: &'static str| Piece::Fixed(text.as_bytes());
        let (start, rest) = PAGE.split_once(TEXT_PLACE).unwrap_or((PAGE, ""));
        let (middle, end) = rest.split_once(STATE_PLACE).unwrap_or((rest, ""));
        let (text, json) = (Piece::Made(text), Piece::Made(json));
        let body = vec![fixed(start), text, fixed(middle), json, fixed(end)];
        Answer::Page { content_type: "text/html; charset=utf-8", body }
    }

    fn answered(&mut self, status: Status) {
        self.served.answers += 1;
        self.served.refusals += u64::from(status != Status::Ok);
        (self.log)(&self.served);
    }

    fn is_full(&mut self) -> bool {
        self.made.retain(|made| made.strong_count() > 0);
        let bytes: usize = self.made.iter().filter_map(Weak::upgrade).map(|made| made.len()).sum();
        bytes >= ANSWERS_MAX
    }

    fn reserve(&mut self, reserve: &Reserve) {
        self.served.reserve = reserve.len() as u64;
        self.served.given_back = reserve.surrendered();
        self.served.lost = reserve.lost();
    }
}

/// Fills up with spaces. Tools such as `ab` take answers of different lengths for failures.
fn pad(text: &mut String) {
    let length = text.len().next_multiple_of(LENGTHS);
    text.extend(core::iter::repeat_n(' ', length - text.len()));
}

/// The environments and the owners of frames as a table of text, for readers without scripts.
fn text(state: &State) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut text, state);
    text
}

fn write_text(text: &mut String, state: &State) -> fmt::Result {
    let head = ["environment", "state", "frames", "limit", "slices", "asked", "given", "taken"];
    let [label, condition, frames, limit, slices, asked, given, taken] = head;
    writeln!(
        text,
        "{label:16} {condition:9} {frames:>7} {limit:>7} {slices:>6} {asked:>6} {given:>6} {taken:>6}"
    )?;
    for one in &state.environments {
        writeln!(
            text,
            "{:16} {:9} {:>7} {:>7} {:>6} {:>6} {:>6} {:>6}",
            Escaped(&one.label),
            one.state,
            one.frames.held,
            one.frames.limit,
            one.slices,
            one.asks,
            one.surrendered,
            one.repossessed
        )?;
    }
    for owner in state.frames.iter().filter(|owner| owner.owner.starts_with('(')) {
        writeln!(text, "{:26} {:>7}", Escaped(&owner.owner), owner.frames)?;
    }
    Ok(())
}

/// Text inside an HTML element.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaped = String::with_capacity(self.0.len());
        for character in self.0.chars() {
            match character {
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '&' => escaped.push_str("&amp;"),
                control if control.is_control() => escaped.push('\u{fffd}'),
                other => escaped.push(other),
            }
        }
        f.pad(&escaped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Environment;
    use alloc::borrow::ToOwned;

    fn state() -> State {
        let label = "</script><b>&".to_owned();
        State {
            environments: vec![Environment { label, ..Environment::default() }],
            ..State::default()
        }
    }

    fn body(site: &mut Tables, path: &str, now: Instant) -> Vec<u8> {
        match site.answer(path, now) {
            Answer::Page { body, .. } => {
                body.iter().flat_map(|piece| piece.as_ref().to_vec()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_page_has_its_places() {
        assert_eq!(PAGE.matches(TEXT_PLACE).count(), 1);
        assert_eq!(PAGE.matches(STATE_PLACE).count(), 1);
        assert!(PAGE.find(TEXT_PLACE) < PAGE.find(STATE_PLACE));
    }

    #[test]
    fn labels_of_strangers_stay_text() {
        let mut site = Tables::new(state, |_| ());
        let page = String::from_utf8(body(&mut site, "/", Instant::ZERO)).unwrap();
        assert!(!page.contains("</script><b>"));
        let json = body(&mut site, "/state.json", Instant::ZERO);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["environments"][0]["label"], "</script><b>&");
    }

    #[test]
    fn answers_are_made_anew_when_they_are_old() {
        let mut site = Tables::new(state, |_| ());
        let first = body(&mut site, "/state.json", Instant::ZERO);
        site.answered(Status::Ok);
        assert_eq!(body(&mut site, "/state.json", Instant::ZERO), first);
        assert_ne!(body(&mut site, "/state.json", Instant::ZERO + FRESH), first);
    }

    #[test]
    fn clients_that_take_nothing_hold_a_bounded_amount() {
        let mut site = Tables::new(state, |_| ());
        let mut held = Vec::new();
        for second in 0..100_000 {
            match site.answer("/", Instant::from_secs(second)) {
                Answer::Page { body, .. } => held.push(body),
                Answer::Busy => break,
                Answer::NotFound => panic!("no page"),
            }
        }
        assert!(site.is_full());
        held.clear();
        assert!(matches!(site.answer("/", Instant::from_secs(1_000_000)), Answer::Page { .. }));
    }
}
