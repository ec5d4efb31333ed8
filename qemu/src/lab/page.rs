//! The report: one page that needs nothing beside it.

use std::fmt::Write;

use exo_abi::Kind;

use crate::lab::experiment::Run;
use crate::lab::legend::{self, MARKS};
use crate::lab::picture::{self, escape};
use crate::lab::scenario::{Program, Scenario};
use crate::lab::timeline::{Timeline, What};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2em auto;
  padding: 0 20px; }
h1 { font-size: 1.6em; margin-bottom: 0.2em; } h2 { margin-top: 2em; }
h3 { margin: 1.6em 0 0.2em; font-weight: 600; }
p.about { color: #444; max-width: 46em; } p.note { color: #777; margin: 0.2em 0; }
.good { color: #00734f; } .bad { color: #c00000; font-weight: 600; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; }
svg .name { font-weight: 600; font-size: 13px; }
svg .number, svg .axis { fill: #888; } svg .grid { stroke: #eee; } svg .lane { stroke: #ddd; }
svg path:hover { stroke-width: 3; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; color: #555; margin: 0.6em 0; }
.legend svg { width: 18px; height: 18px; display: inline-block; vertical-align: middle; }
.swatch { display: inline-block; width: 22px; height: 3px; vertical-align: middle; margin-right: 6px; }
.swatch.limit { height: 0; border-top: 2px dotted #888; }
table { border-collapse: collapse; margin-top: 0.6em; }
td { white-space: nowrap; }
th, td { vertical-align: bottom; padding: 3px 16px 3px 0; text-align: right; border-bottom: 1px solid #eee; }
th { color: #777; font-weight: 500; } th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
";

/// The report on all runs of a scenario.
#[must_use]
pub fn report(scenario: &Scenario, runs: &[Run]) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n\
         <p class=\"about\">{1}</p>\n",
        escape(&scenario.title),
        escape(scenario.about.trim())
    );
    let processors = if scenario.cpus == 1 { "processor" } else { "processors" };
    let _ = writeln!(
        page,
        "<p class=\"note\">{} {processors}, {} MiB of memory. Time is the guest's own: a busy host \
         makes nobody late. Point at a line, a mark or a bar for its numbers.</p>",
        scenario.cpus, scenario.memory
    );
    for run in runs {
        section(&mut page, scenario, run, runs.len() > 1);
    }
    page + "</body>\n</html>\n"
}

fn section(page: &mut String, scenario: &Scenario, run: &Run, several: bool) {
    if several {
        let _ = writeln!(page, "<h2>Seed {}</h2>", run.seed);
    }
    let unpaid = run.timeline.events.iter().filter(|event| event.what == What::Unpaid).count();
    let verdict = if run.is_good() {
        "<p class=\"good\">Every debt was paid, every loss was told, and at the end everything was \
         free again.</p>"
            .to_owned()
    } else {
        format!(
            "<p class=\"bad\">Something went wrong: {unpaid} debts unpaid, {} losses untold, everything \
             given back: {}, ended with: {}</p>",
            run.untold,
            run.conserved,
            escape(&run.verdict)
        )
    };
    let _ = writeln!(page, "{verdict}");
    table(page, scenario, &run.timeline);
    for kind in Kind::ALL {
        let kind = kind.label();
        let asked = run.timeline.events.iter().any(|event| event.kind == kind);
        let picture = picture::holdings(scenario, &run.timeline, kind);
        if !asked || picture.is_empty() {
            continue;
        }
        let _ = writeln!(page, "<h3>Who holds how many {kind}, and what happens to them</h3>");
        legend(page, scenario, &run.timeline, kind);
        page.push_str(&picture);
    }
    let histogram = picture::histogram(scenario, &run.timeline.latencies);
    if !histogram.is_empty() {
        let _ = writeln!(page, "<h3>How long it takes until a debt is paid</h3>");
        let _ = writeln!(
            page,
            "<p class=\"note\">Who gives back by choice is quick. From who does not, the kernel takes \
             when the notice is over; from then on it does not matter what the program wants.</p>"
        );
        programs(page, scenario, "");
        page.push_str(&histogram);
    }
}

/// The lines and the marks that the picture of a kind has.
fn legend(page: &mut String, scenario: &Scenario, timeline: &Timeline, kind: &str) {
    let limit = "<span><span class=\"swatch limit\"></span>how many it may hold</span>";
    programs(page, scenario, if kind == "frames" { limit } else { "" });
    let shown = |what: What| {
        let fits = |of: &str| of == kind || of.is_empty();
        timeline.events.iter().any(|event| event.what == what && fits(&event.kind))
    };
    page.push_str("<div class=\"legend\">");
    for mark in MARKS.iter().filter(|mark| shown(mark.what)) {
        let shape = picture::shape(mark, 9.0, 9.0, mark.text);
        let _ = write!(page, "<span><svg viewBox=\"0 0 18 18\">{shape}</svg> {}</span>", mark.text);
    }
    page.push_str("</div>\n");
}

fn programs(page: &mut String, scenario: &Scenario, more: &str) {
    page.push_str("<div class=\"legend\">");
    for (index, program) in scenario.programs.iter().enumerate() {
        let _ = write!(
            page,
            "<span><span class=\"swatch\" style=\"background:{}\"></span>{} ({})</span>",
            legend::colour(index),
            escape(&program.name),
            policy(program)
        );
    }
    let _ = writeln!(page, "{more}</div>");
}

fn policy(program: &Program) -> String {
    match (program.policy, &program.app) {
        (Some(policy), _) => policy.name().to_owned(),
        (None, Some(app)) => format!("the program {}", escape(app)),
        (None, None) => String::new(),
    }
}

/// What each program was asked for, and what came of it.
fn table(page: &mut String, scenario: &Scenario, timeline: &Timeline) {
    page.push_str(
        "<table>\n<tr><th>program</th><th>policy</th><th>times asked</th><th>owed</th><th>given back</th>\
         <th>taken by force</th><th>asks refused</th><th>upcalls</th><th>faults on lost pages</th>\
         <th>usually paid after</th><th>at the latest</th></tr>\n",
    );
    for program in &scenario.programs {
        let own = || timeline.events.iter().filter(|event| event.program == program.name);
        let times = |what: What| own().filter(|event| event.what == what).count();
        let sum = |what: What| -> u64 {
            own().filter(|event| event.what == what).map(|event| event.count).sum()
        };
        let mut took: Vec<f64> = timeline
            .latencies
            .iter()
            .filter(|latency| latency.program == program.name)
            .map(|latency| latency.took)
            .collect();
        took.sort_by(f64::total_cmp);
        let show = |value: Option<&f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.1} ms"));
        let owed: u64 = timeline
            .latencies
            .iter()
            .filter(|latency| latency.program == program.name)
            .map(|latency| latency.debt)
            .sum();
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{owed}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&program.name),
            policy(program),
            times(What::Ask),
            sum(What::Surrendered),
            sum(What::Repossessed),
            times(What::Refused),
            times(What::UpcallAsk) + times(What::UpcallLost),
            times(What::Fault),
            show(took.get(took.len() / 2)),
            show(took.last())
        );
    }
    page.push_str("</table>\n");
}
