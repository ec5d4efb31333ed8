//! One client, from question to answer.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use libos_net::stream::ReadError;
use libos_net::{Duration, Instant, Stream};

use crate::http::{self, HEAD_MAX, Status};
use crate::site::{Answer, Site};

/// How long a client may be silent between two requests.
const IDLE: Duration = Duration::from_secs(15);
/// How long a request may take from its first byte to its last.
const REQUEST: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// A piece of an answer's body.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Part of the program.
    Fixed(&'static [u8]),
    /// Made for this answer, and for others of the same moment.
    Made(Rc<[u8]>),
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

/// What is left to send.
struct Sending {
    head: String,
    body: Vec<Piece>,
    /// The piece that comes next: 0 is the head.
    piece: usize,
    /// The bytes of it that were sent.
    sent: usize,
    keep_alive: bool,
}

/// What a turn has led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The client has to do something, or its buffer to drain.
    Waiting,
    /// The connection is to be closed, after what was written.
    Finished,
    /// The connection is to be reset: there is no use in waiting for it.
    Hopeless,
}

/// One client.
pub struct Connection {
    question: Vec<u8>,
    sending: Option<Sending>,
    /// It has had an answer.
    served: bool,
    /// When what it does now began.
    since: Instant,
}

impl Connection {
    /// A client that has just come.
    pub fn new(now: Instant) -> Self {
        Self { question: Vec::new(), sending: None, served: false, since: now }
    }

    /// Whether it has had an answer and asks nothing more.
    pub fn is_satisfied(&self) -> bool {
        self.served && self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.sending.is_none() && self.question.is_empty()
    }

    /// Whether it is being answered.
    pub fn is_answered(&self) -> bool {
        self.sending.is_some()
    }

    /// Since when it has been doing what it does.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When it will have taken too long.
    pub fn deadline(&self) -> Instant {
        let patience = match &self.sending {
            Some(_) => ANSWER,
            None if self.question.is_empty() => IDLE,
            None => REQUEST,
        };
        self.since + patience
    }

    /// Takes the client as far as it goes without waiting.
    pub fn step(
        &mut self,
        stream: &mut Stream<'_>,
        site: &mut impl Site,
        now: Instant,
    ) -> Progress {
        loop {
            if let Some(progress) = self.send(stream, now) {
                return progress;
            }
            if self.ask(site, now) {
                continue;
            }
            match self.read(stream, now) {
                Ok(true) => {}
                Ok(false) if now < self.deadline() => return Progress::Waiting,
                Ok(false) if self.is_idle() => return Progress::Finished,
                Ok(false) => self.refuse(Status::RequestTimeout, now),
                Err(ReadError::Finished) => return Progress::Finished,
                Err(ReadError::Broken) => return Progress::Hopeless,
            }
        }
    }

    /// Sends what is left of the answer. `None`: there is none, the client may ask.
    fn send(&mut self, stream: &mut Stream<'_>, now: Instant) -> Option<Progress> {
        let late = now >= self.deadline();
        let sending = self.sending.as_mut()?;
        while let Some(rest) = sending.rest() {
            match stream.write(rest) {
                Ok(0) if late => return Some(Progress::Hopeless),
                Ok(0) => return Some(Progress::Waiting),
                Ok(written) => sending.sent += written,
                Err(_) => return Some(Progress::Hopeless),
            }
        }
        if !sending.keep_alive {
            return Some(Progress::Finished);
        }
        self.sending = None;
        self.served = true;
        self.since = now;
        None
    }

    /// Reads more of the question. False: nothing has come.
    fn read(&mut self, stream: &mut Stream<'_>, now: Instant) -> Result<bool, ReadError> {
        let mut bytes = [0; 512];
        let room = (HEAD_MAX - self.question.len().min(HEAD_MAX)).min(bytes.len());
        let length = stream.read(&mut bytes[..room])?;
        if length > 0 && self.question.is_empty() {
            self.since = now;
        }
        self.question.extend_from_slice(&bytes[..length]);
        Ok(length > 0)
    }

    /// Begins an answer if the question is complete, or will never be one.
    fn ask(&mut self, site: &mut impl Site, now: Instant) -> bool {
        if self.question.is_empty() {
            return false;
        }
        let request = match http::parse(&self.question) {
            Ok(None) => return false,
            Err(status) => {
                self.refuse(status, now);
                site.answered(status);
                return true;
            }
            Ok(Some(request)) => request,
        };
        let answer = request.allowed.then(|| site.answer(request.path, now));
        let (status, content_type, body) = match answer {
            Some(Answer::Page { content_type, body }) => (Status::Ok, content_type, body),
            Some(Answer::NotFound) => plain(Status::NotFound),
            Some(Answer::Busy) => plain(Status::Unavailable),
            None => plain(Status::MethodNotAllowed),
        };
        let keep_alive = request.keep_alive && !status.is_final();
        let (head_only, length) = (request.head_only, request.length);
        self.question.drain(..length);
        self.begin(Sending::new(status, content_type, body, keep_alive, head_only), now);
        site.answered(status);
        true
    }

    fn refuse(&mut self, status: Status, now: Instant) {
        self.question = Vec::new();
        let (status, content_type, body) = plain(status);
        self.begin(Sending::new(status, content_type, body, false, false), now);
    }

    fn begin(&mut self, sending: Sending, now: Instant) {
        self.sending = Some(sending);
        self.since = now;
    }
}

/// An answer that says no more than its status.
fn plain(status: Status) -> (Status, &'static str, Vec<Piece>) {
    let body = [Piece::Fixed(status.text().as_bytes()), Piece::Fixed(b"\n")];
    (status, "text/plain; charset=utf-8", Vec::from(body))
}

impl Sending {
    fn new(
        status: Status,
        content_type: &str,
        body: Vec<Piece>,
        keep_alive: bool,
        head_only: bool,
    ) -> Self {
        let length = body.iter().map(|piece| piece.as_ref().len()).sum();
        let head = http::head(status, content_type, length, keep_alive);
        let body = if head_only { Vec::new() } else { body };
        Self { head, body, piece: 0, sent: 0, keep_alive }
    }

    /// What comes next. `None`: nothing.
    fn rest(&mut self) -> Option<&[u8]> {
        while self.sent == self.piece()?.len() {
            self.piece += 1;
            self.sent = 0;
        }
        self.piece()?.get(self.sent..)
    }

    fn piece(&self) -> Option<&[u8]> {
        match self.piece.checked_sub(1) {
            None => Some(self.head.as_bytes()),
            Some(piece) => self.body.get(piece).map(AsRef::as_ref),
        }
    }
}
