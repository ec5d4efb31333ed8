//! The merged tree as a picture (SVG): tests to the left, indented by what they stand behind, and
//! beside each its machine code.

use std::fmt::Write;

use filter_language::show_atom;
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use packet_filters::{Atom, Filter, Width};

use crate::merged::{Part, Work};

/// Pixels.
const ROW: usize = 17;
const STEP: usize = 22;
const TREE: usize = 620;
const CODE: usize = 460;
const HEAD: usize = 64;
const MARGIN: usize = 16;
/// The most lines of code, and of filters, that are drawn of one node.
const CODE_LINES: usize = 14;
const FILTER_LINES: usize = 4;
/// The most characters of a line.
const WIDTH: usize = 84;

/// What is drawn.
pub struct Picture<'a> {
    /// The parts of the code.
    pub parts: &'a [Part],
    /// The code.
    pub code: &'a [u8],
    /// The names of filters, by id.
    pub names: &'a dyn Fn(u32) -> String,
    /// How many packets each filter got, by id, if any were counted.
    pub hits: Option<&'a [u64]>,
    /// Whether everything is drawn, however long.
    pub unfolded: bool,
}

/// A node with its lines.
struct Node {
    depth: usize,
    lines: Vec<String>,
    listing: Vec<String>,
    kind: &'static str,
}

impl Picture<'_> {
    /// The picture.
    #[must_use]
    pub fn draw(&self) -> String {
        let nodes = self.nodes();
        let height = |node: &Node| ROW * node.lines.len().max(node.listing.len()) + ROW / 2;
        let total = HEAD + nodes.iter().map(height).sum::<usize>() + MARGIN;
        let deepest = nodes.iter().map(|node| node.depth).max().unwrap_or(0);
        let middle = TREE + STEP * deepest.saturating_sub(6);
        let width = middle + CODE;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{total}\" \
             viewBox=\"0 0 {width} {total}\" font-family=\"monospace\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let title = self.title();
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"28\" font-size=\"16\" font-family=\"sans-serif\">{}</text>\n\
             <text x=\"{MARGIN}\" y=\"48\" fill=\"#666\" font-family=\"sans-serif\">Tests that \
             filters share are made once; what is indented is done if the test above held.</text>\n\
             <text x=\"{middle}\" y=\"48\" fill=\"#666\" font-family=\"sans-serif\">machine code</text>",
            escaped(&title)
        );
        let mut top = HEAD;
        let mut parents: Vec<usize> = Vec::new();
        for node in &nodes {
            parents.truncate(node.depth);
            paint(&mut svg, node, top, height(node), middle, parents.last().copied());
            parents.push(top);
            top += height(node);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn title(&self) -> String {
        let shapes = self.parts.iter().filter_map(|part| match &part.work {
            Work::Shape { members, .. } => Some(members.len()),
            _ => None,
        });
        let (shapes, filters) = shapes.fold((0_u64, 0), |(n, sum), members| (n + 1, sum + members));
        let counted = self
            .hits
            .map_or_else(String::new, |hits| format!(", {}", number(hits.iter().sum(), "packet")));
        let (filters, shapes) = (number(filters as u64, "filter"), number(shapes, "shape"));
        format!("{filters} of {shapes}{counted}, {} bytes of code", self.code.len())
    }

    fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut depth = 0;
        for (place, part) in self.parts.iter().enumerate() {
            let end = self.parts.get(place + 1).map_or(self.code.len(), |next| next.at);
            let listing = self.listing(part.at, end);
            match &part.work {
                Work::End => depth -= 1,
                Work::Test(atom) => {
                    let hits = self.below(place);
                    let lines = vec![format!("{}{hits}", told(*atom))];
                    nodes.push(Node { depth, lines, listing, kind: "test" });
                    depth += 1;
                }
                Work::Shape { sample, varies, members, hashed } => {
                    let lines = self.shape(sample, *varies, members, *hashed);
                    let kind = if *hashed { "table" } else { "code" };
                    nodes.push(Node { depth, lines, listing, kind });
                }
            }
        }
        nodes
    }

    /// The packets of the filters below a test.
    fn below(&self, place: usize) -> String {
        let Some(hits) = self.hits else { return String::new() };
        let (mut depth, mut sum) = (0, 0);
        for part in &self.parts[place..] {
            match &part.work {
                Work::Test(_) => depth += 1,
                Work::End => depth -= 1,
                Work::Shape { members, .. } => {
                    sum += members.iter().map(|id| hits[*id as usize]).sum::<u64>();
                }
            }
            if depth == 0 {
                break;
            }
        }
        format!("   [{sum}]")
    }

    fn shape(&self, sample: &Filter, varies: u16, members: &[u32], hashed: bool) -> Vec<String> {
        let open = sample.atoms().iter().enumerate().filter(|(place, _)| varies >> place & 1 != 0);
        let fields: Vec<String> = open.map(|(_, atom)| field(atom)).collect();
        let count = members.len();
        let sum = self.hits.map(|hits| members.iter().map(|id| hits[*id as usize]).sum::<u64>());
        let sum = sum.map_or_else(String::new, |sum| format!("   [{sum}]"));
        let mut lines = vec![match (hashed, fields.is_empty()) {
            (_, true) => format!("accept{sum}"),
            (true, _) => format!("{count} filters in the table, by {}{sum}", fields.join(", ")),
            (false, _) => format!("{count} filters in the code, by {}{sum}", fields.join(", ")),
        }];
        let mut sorted: Vec<u32> = members.to_vec();
        let hits = |id: u32| self.hits.map_or(0, |hits| hits[id as usize]);
        sorted.sort_by_key(|id| (std::cmp::Reverse(hits(*id)), *id));
        let shown = if self.unfolded || count <= FILTER_LINES + 1 { count } else { FILTER_LINES };
        for id in &sorted[..shown] {
            let own = self.hits.map_or_else(String::new, |_| format!("   [{}]", hits(*id)));
            lines.push(format!("  {}{own}", (self.names)(*id)));
        }
        if shown < count {
            lines.push(format!("  … and {} more", count - shown));
        }
        lines
    }

    /// The instructions of a part.
    fn listing(&self, start: usize, end: usize) -> Vec<String> {
        let code = &self.code[start..end];
        let mut formatter = IntelFormatter::new();
        formatter.options_mut().set_branch_leading_zeros(false);
        let mut lines: Vec<String> = Vec::new();
        for instruction in Decoder::with_ip(64, code, start as u64, DecoderOptions::NONE).iter() {
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            lines.push(format!("{:5x}  {text}", instruction.ip()));
        }
        if !self.unfolded && lines.len() > CODE_LINES + 1 {
            let more = lines.len() - CODE_LINES;
            lines.truncate(CODE_LINES);
            lines.push(format!("       … and {more} more"));
        }
        lines
    }
}

fn paint(
    svg: &mut String,
    node: &Node,
    top: usize,
    height: usize,
    middle: usize,
    parent: Option<usize>,
) {
    let left = MARGIN + STEP * node.depth;
    let (fill, line) = match node.kind {
        "test" => ("#eef3fa", "#1f77b4"),
        "table" => ("#fdf1e3", "#d97706"),
        _ => ("#eaf6ea", "#2c8a2c"),
    };
    if let Some(parent) = parent {
        let (x, from, to) = (left - STEP / 2, parent + ROW, top + ROW / 2);
        let _ =
            writeln!(svg, "<path d=\"M{x} {from} V{to} H{left}\" fill=\"none\" stroke=\"#999\"/>");
    }
    let longest = node.lines.iter().map(|line| line.chars().count().min(WIDTH)).max().unwrap_or(0);
    let (width, box_height) = (16 + longest * 15 / 2, ROW * node.lines.len());
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{box_height}\" rx=\"4\" \
         fill=\"{fill}\" stroke=\"{line}\"/>\n<path d=\"M{middle} {top} v{}\" stroke=\"{line}\"/>",
        height - ROW / 2
    );
    for (number, text) in node.lines.iter().enumerate() {
        let y = top + ROW * number + 13;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{y}\" xml:space=\"preserve\">{}</text>",
            left + 7,
            escaped(&cut(text))
        );
    }
    for (number, text) in node.listing.iter().enumerate() {
        let y = top + ROW * number + 13;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{y}\" fill=\"#333\" xml:space=\"preserve\">{}</text>",
            middle + 8,
            escaped(text)
        );
    }
}

/// So many of something.
fn number(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A line that is not too long.
fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// What a compare looks at.
fn field(atom: &Atom) -> String {
    match *atom {
        Atom::Compare { offset, width, mask, .. } if mask == width.full_mask() => {
            format!("{offset}:{}", width.bytes())
        }
        Atom::Compare { offset, width, mask, .. } => {
            format!("{offset}:{}&{mask:#x}", width.bytes())
        }
        Atom::Shift { .. } => show_atom(*atom).to_string(),
    }
}

/// A test, with what it asks in words where that is well known.
fn told(atom: Atom) -> String {
    let meaning = match atom {
        Atom::Shift { offset: 14, mask: 0x0f, shift: 2 } => "   behind the IPv4 header",
        Atom::Compare { offset: 12, width: Width::Two, mask: 0xffff, value } => match value {
            0x0800 => "   IPv4",
            0x86dd => "   IPv6",
            0x0806 => "   ARP",
            _ => "   link type",
        },
        Atom::Compare { offset: 23, width: Width::One, mask: 0xff, value } => match value {
            1 => "   protocol ICMP",
            6 => "   protocol TCP",
            17 => "   protocol UDP",
            _ => "   protocol",
        },
        Atom::Compare { offset: 20, width: Width::Two, mask: 0x1fff, value: 0 } => {
            "   no later fragment"
        }
        _ => "",
    };
    format!("{}{meaning}", show_atom(atom))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
