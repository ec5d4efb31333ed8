//! The pictures: holdings over time with what happened below them, and how long debts took.

use std::fmt::Write;

use crate::lab::legend::{self, Mark};
use crate::lab::scenario::Scenario;
use crate::lab::timeline::{Event, Latency, Steps, Timeline, What};

/// Pixels.
const WIDTH: f64 = 1040.0;
const LEFT: f64 = 120.0;
const RIGHT: f64 = 20.0;
const PLOT: f64 = 74.0;
const LANE: f64 = 40.0;
const GAP: f64 = 12.0;
const AXIS: f64 = 34.0;
const TOP: f64 = 14.0;
/// About how many lines a scale of this many pixels has.
const LINE_EVERY: f64 = 24.0;
/// The bars of the histogram.
const BARS: usize = 40;
const BARS_HEIGHT: f64 = 170.0;

/// Text as it stands in HTML and SVG.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// From numbers to pixels.
struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let span = (self.to - self.from).max(f64::MIN_POSITIVE);
        self.start + (value - self.from) / span * (self.end - self.start)
    }

    /// Round numbers along it.
    fn lines(&self) -> Vec<f64> {
        let rough = (self.to - self.from) / ((self.end - self.start).abs() / LINE_EVERY).min(8.0);
        let power = 10_f64.powf(rough.max(1e-9).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step).floor() as i64;
        (first..=last).map(|number| number as f64 * step).collect()
    }
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Where the program with this name stands in the scenario.
fn index(scenario: &Scenario, name: &str) -> usize {
    scenario.programs.iter().position(|program| program.name == name).unwrap_or(0)
}

/// For each program, how many of a kind it holds over time, and below that what happened to it.
/// Empty where nobody holds any.
#[must_use]
pub fn holdings(scenario: &Scenario, timeline: &Timeline, kind: &str) -> String {
    let Some(held) = timeline.holdings.get(kind) else { return String::new() };
    let programs = scenario.programs.iter().enumerate();
    let rows: Vec<_> = programs
        .filter_map(|(index, program)| Some((index, &program.name, held.get(&program.name)?)))
        .collect();
    let x = Scale { from: 0.0, to: timeline.length.max(1.0), start: LEFT, end: WIDTH - RIGHT };
    let height = TOP + (PLOT + LANE + GAP) * rows.len() as f64 + AXIS;
    let mut svg = open(height, &format!("{kind} held over time"));
    for value in x.lines() {
        let at = x.place(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/>",
            height - AXIS
        );
    }
    for (row, (index, name, steps)) in rows.iter().enumerate() {
        let top = TOP + (PLOT + LANE + GAP) * row as f64;
        let limits = timeline.limits.get(*name).filter(|_| kind == "frames");
        let y = range(steps, limits, top);
        levels(&mut svg, &y, y.lines().into_iter().filter(|value| value.fract() == 0.0).collect());
        let colour = legend::colour(*index);
        path(&mut svg, steps, (&x, &y), colour, name);
        if let Some(limits) = limits {
            limit_path(&mut svg, limits, (&x, &y));
        }
        let middle = top + PLOT + LANE / 2.0 + 4.0;
        lane(&mut svg, name, colour, (top + PLOT / 2.0, middle));
        let own = |event: &&Event| {
            event.program == **name && (event.kind == kind || event.kind.is_empty())
        };
        for event in timeline.events.iter().filter(own) {
            draw_event(&mut svg, event, &x, middle);
        }
    }
    moments(&mut svg, &x, height - AXIS, "milliseconds");
    svg + "</svg>\n"
}

/// The scale of a row: from nothing, but where a program always holds much, the changes are what
/// matters.
fn range(steps: &Steps, limits: Option<&Steps>, top: f64) -> Scale {
    let values = steps.iter().chain(limits.into_iter().flatten()).map(|(_, count)| *count as f64);
    let (least, most) = values
        .filter(|value| *value > 0.0)
        .fold((f64::MAX, 1.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    let room = ((most - least) * 0.15).max(1.0);
    let from = if least < most / 2.0 { 0.0 } else { (least - room).floor().max(0.0) };
    Scale { from, to: (most + room).ceil(), start: top + PLOT, end: top }
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(title)
    )
}

/// Lines across, with their numbers on the left.
fn levels(svg: &mut String, y: &Scale, lines: Vec<f64>) {
    for value in lines {
        let at = y.place(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"number\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            number(value)
        );
    }
}

/// The numbers below a picture, and what they are.
fn moments(svg: &mut String, x: &Scale, bottom: f64, text: &str) {
    for value in x.lines() {
        let _ = writeln!(
            svg,
            "<text class=\"number\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x.place(value),
            bottom + 16.0,
            number(value)
        );
    }
    let (right, below) = (WIDTH - RIGHT, bottom + 31.0);
    let _ = writeln!(
        svg,
        "<text class=\"axis\" x=\"{right}\" y=\"{below}\" text-anchor=\"end\">{text}</text>"
    );
}

/// What the numbers on the left are.
fn name_levels(svg: &mut String, middle: f64, text: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"axis\" transform=\"translate(16,{middle}) rotate(-90)\" \
         text-anchor=\"middle\">{}</text>",
        escape(text)
    );
}

/// The way along steps, to the end of the picture or of who ended and holds nothing; `None` where
/// there are none.
fn along(steps: &Steps, (x, y): (&Scale, &Scale)) -> Option<String> {
    let mut points = steps
        .iter()
        .map(|(at, count)| (x.place(*at), y.place((*count as f64).clamp(y.from, y.to))));
    let (at, level) = points.next()?;
    let mut data = format!("M{at:.1},{level:.1}");
    for (at, level) in points {
        let _ = write!(data, "H{at:.1}V{level:.1}");
    }
    let end = steps.last().filter(|(_, count)| *count == 0).map_or(x.end, |(at, _)| x.place(*at));
    Some(format!("{data}H{end:.1}"))
}

/// How many are held, as an area with a tooltip at each step.
fn path(svg: &mut String, steps: &Steps, scales: (&Scale, &Scale), colour: &str, name: &str) {
    let (x, y) = scales;
    let Some(line) = along(steps, scales) else { return };
    let first = steps.first().map_or(0.0, |(at, _)| x.place(*at));
    let _ = writeln!(
        svg,
        "<path d=\"{line}V{0:.1}H{first:.1}Z\" fill=\"{colour}\" fill-opacity=\"0.16\"/>\
         <path d=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>",
        y.start
    );
    for (index, (at, count)) in steps.iter().enumerate() {
        let end = steps.get(index + 1).map_or(x.end, |(next, _)| x.place(*next));
        let (start, until) = (number(*at), steps.get(index + 1).map(|(next, _)| number(*next)));
        let until = until.map_or_else(String::new, |until| format!(" until {until}"));
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{PLOT}\" fill=\"transparent\">\
             <title>{} holds {count} from {start}{until} ms</title></rect>",
            x.place(*at),
            y.end,
            (end - x.place(*at)).max(0.0),
            escape(name)
        );
    }
}

/// How many may be held.
fn limit_path(svg: &mut String, limits: &Steps, scales: (&Scale, &Scale)) {
    if let Some(line) = along(limits, scales) {
        let _ = writeln!(
            svg,
            "<path d=\"{line}\" fill=\"none\" stroke=\"#777\" stroke-dasharray=\"2 3\"/>"
        );
    }
}

fn lane(svg: &mut String, name: &str, colour: &str, (plot, middle): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line class=\"lane\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{middle}\" y2=\"{middle}\"/>\
         <text class=\"name\" x=\"0\" y=\"{}\" fill=\"{colour}\">{}</text>",
        WIDTH - RIGHT,
        plot + 4.0,
        escape(name)
    );
}

/// A mark as SVG, at a place.
#[must_use]
pub fn shape(mark: &Mark, x: f64, y: f64, tooltip: &str) -> String {
    let fill = if mark.filled { mark.colour } else { "none" };
    format!(
        "<path d=\"{}\" transform=\"translate({x:.1},{y:.1})\" fill=\"{fill}\" stroke=\"{}\" \
         stroke-width=\"1.4\"><title>{}</title></path>",
        mark.path,
        mark.colour,
        escape(tooltip)
    )
}

/// Asks above the lane, what the program and the kernel do on it, the upcalls below.
fn draw_event(svg: &mut String, event: &Event, x: &Scale, middle: f64) {
    let Some(mark) = legend::mark(event.what) else { return };
    let offset = match event.what {
        What::Ask | What::Refused | What::Returned => -12.0,
        What::UpcallAsk | What::UpcallLost | What::Fault => 12.0,
        _ => 0.0,
    };
    let by = event.by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
    let count = if event.count > 0 { format!(" ({})", event.count) } else { String::new() };
    let tooltip = format!("{} ms, {}: {}{count}{by}", number(event.at), event.program, mark.text);
    let _ = writeln!(svg, "{}", shape(mark, x.place(event.at), middle + offset, &tooltip));
}

/// How many debts took how long, a bar for each span of time, each program in its colour.
#[must_use]
pub fn histogram(scenario: &Scenario, latencies: &[Latency]) -> String {
    let Some(longest) = latencies.iter().map(|latency| latency.took).max_by(f64::total_cmp) else {
        return String::new();
    };
    let span = (longest / BARS as f64).max(0.25);
    let mut counts = vec![vec![0_u32; scenario.programs.len()]; BARS + 1];
    for latency in latencies {
        let bar = ((latency.took / span) as usize).min(BARS);
        counts[bar][index(scenario, &latency.program)] += 1;
    }
    let most = counts.iter().map(|bar| bar.iter().sum::<u32>()).max().unwrap_or(1);
    let x = Scale { from: 0.0, to: span * (BARS + 1) as f64, start: LEFT, end: WIDTH - RIGHT };
    let y = Scale { from: 0.0, to: f64::from(most), start: TOP + BARS_HEIGHT, end: TOP };
    let height = TOP + BARS_HEIGHT + AXIS;
    let mut svg = open(height, "how long debts took");
    levels(&mut svg, &y, y.lines().into_iter().filter(|value| value.fract() == 0.0).collect());
    for (bar, programs) in counts.iter().enumerate() {
        let (left, right) = (x.place(span * bar as f64), x.place(span * (bar + 1) as f64));
        let mut below = 0;
        for (program, count) in programs.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (bottom, top) = (y.place(f64::from(below)), y.place(f64::from(below + count)));
            below += count;
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\">\
                 <title>{}: {count} debts paid after {} to {} ms</title></rect>",
                left + 1.0,
                (right - left - 2.0).max(1.0),
                bottom - top,
                legend::colour(program),
                escape(&scenario.programs[program].name),
                number(span * bar as f64),
                number(span * (bar + 1) as f64)
            );
        }
    }
    moments(&mut svg, &x, TOP + BARS_HEIGHT, "milliseconds from the ask until the debt was paid");
    name_levels(&mut svg, TOP + BARS_HEIGHT / 2.0, "debts");
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_numbers() {
        let scale = Scale { from: 0.0, to: 470.0, start: 0.0, end: 940.0 };
        assert_eq!(scale.lines(), [0.0, 100.0, 200.0, 300.0, 400.0]);
        assert!((scale.place(235.0) - 470.0).abs() < 1e-9);
    }

    #[test]
    fn who_has_ended_has_no_line() {
        let scale = || Scale { from: 0.0, to: 100.0, start: 0.0, end: 100.0 };
        let scales = (&scale(), &scale());
        let goes_on = vec![(0.0, 50), (10.0, 20)];
        assert!(along(&goes_on, scales).is_some_and(|line| line.ends_with("H100.0")));
        let ended = vec![(0.0, 50), (10.0, 0)];
        assert!(along(&ended, scales).is_some_and(|line| line.ends_with("V0.0H10.0")));
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
