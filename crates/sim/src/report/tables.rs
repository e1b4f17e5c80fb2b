//! What the console shows: a line while a run goes on, tables when it is over.

use std::time::Duration;

use comfy_table::{ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use navarch_model::Time;
use navarch_policy::catalogue::xid_text;

use super::figures::{self, Figures, Percentiles};
use super::text::{Severity, plain, span};
use crate::record::{Outcome, Record};
use crate::run::Progress;

/// The most XIDs that the table has, as in the Go project.
const TOP_XIDS: usize = 5;

/// How wide the bar of [`progress_line`] is.
const BAR_CHARACTERS: usize = 20;

/// The line that shows how far a run is, without an end of line.
#[must_use]
pub fn progress_line(progress: &Progress) -> String {
    let elapsed = progress.now.since(Time(0));
    let total = progress.until.unwrap_or(progress.now).since(Time(0));
    let share = match total.as_secs_f64() {
        total if total > 0.0 => (elapsed.as_secs_f64() / total).min(1.0),
        _ => 1.0,
    };
    let full = (share * BAR_CHARACTERS as f64) as usize;
    let left = total.saturating_sub(elapsed);
    format!(
        "[{}{}] {:5.1}%  {} elapsed, {} remaining | nodes: {} healthy | failures: {} ({} cascading) \
         | recoveries: {}",
        "=".repeat(full),
        " ".repeat(BAR_CHARACTERS - full),
        share * 100.0,
        whole_seconds(elapsed),
        whole_seconds(left),
        progress.healthy,
        progress.failures,
        progress.cascaded,
        progress.recoveries,
    )
}

/// A duration that does not change its width with every step.
fn whole_seconds(span: Duration) -> String {
    navarch_config::duration::go_string(Duration::from_secs(span.as_secs()))
}

/// The summary of a run, in lines that end. Equal records give equal texts.
#[must_use]
pub fn tables(record: &Record) -> String {
    let figures = Figures::of(record);
    let mut text = heading(record);
    let parts = [
        table("Nodes", &[], nodes(record, &figures)),
        table("Failures", &[], failures(record, &figures)),
        table("Failure types", &["TYPE", "COUNT"], types(&figures)),
        table(
            "Top XID errors",
            &["XID", "NAME", "COUNT", "SEVERITY"],
            xids(&figures),
        ),
        table("Capacity and cost", &[], capacity(record)),
        table("GPU-hours lost", &["CAUSE", "GPU-HOURS"], lost(record)),
        table(
            "Times after a failure",
            &["UNTIL", "FAILURES", "P50", "P90", "P99", "LONGEST"],
            times(&figures),
        ),
        table(
            "Assertions",
            &["LINE", "EXPECTED", "FOUND"],
            assertions(record),
        ),
        table("Promises broken", &[], violations(record)),
    ];
    for part in parts.into_iter().flatten() {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

fn heading(record: &Record) -> String {
    let outcome = match &record.outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed(reason) => format!("FAILED: {}", plain(reason)),
        Outcome::Interrupted => "interrupted".to_owned(),
    };
    format!(
        "{}: {outcome}\nSimulated {}, start-up {}, seed {}.\n",
        plain(&record.name),
        span(record.ended.since(Time(0))),
        span(record.started.since(Time(0))),
        record.seed,
    )
}

/// Light box drawing without rules between rows, as the other commands have it.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('┌', '─', '┬', '┐'))
    .header_lines(ContentLineStyle::new('│', '│', '│'))
    .content_lines(ContentLineStyle::new('│', '│', '│'))
    .bottom_border(LineStyle::new('└', '─', '┴', '┘'));

/// A table below its title; none without rows.
fn table(title: &str, heading: &[&str], rows: Vec<Vec<String>>) -> Option<String> {
    if rows.is_empty() {
        return None;
    }
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if !heading.is_empty() {
        table.add_row(heading);
    }
    for row in rows {
        table.add_row(row);
    }
    Some(format!("{title}\n{table}\n"))
}

/// A row of a name and a figure.
fn row(name: &str, figure: impl ToString) -> Vec<String> {
    vec![name.to_owned(), figure.to_string()]
}

fn nodes(record: &Record, figures: &Figures) -> Vec<Vec<String>> {
    let last = figures::last(record);
    vec![
        row("Started", figures.started),
        row("Failed to start", figures.failed_to_start),
        row("Healthy at the end", last.healthy),
        row("Unhealthy at the end", last.unhealthy),
        row("Degraded at the end", last.degraded),
        row("Fewest healthy after the start-up", figures.healthy.least),
    ]
}

fn failures(record: &Record, figures: &Figures) -> Vec<Vec<String>> {
    vec![
        row("Total failures", record.injections.len()),
        row("Cascading", figures.cascading),
        row("Recoveries", figures.recoveries),
        row("Noticed by the control plane", figures.noticed),
        row("Incidents opened", record.incidents.len()),
        row("Outages", record.outages.len()),
        row("Control plane crashes", record.crashes),
    ]
}

fn types(figures: &Figures) -> Vec<Vec<String>> {
    let types = figures.types().into_iter();
    types.map(|(kind, count)| row(kind, count)).collect()
}

fn xids(figures: &Figures) -> Vec<Vec<String>> {
    let xids = figures.xids().into_iter().take(TOP_XIDS);
    xids.map(|(xid, count)| {
        vec![
            xid.to_string(),
            xid_text(xid).into_owned(),
            count.to_string(),
            Severity::of(xid).word().to_owned(),
        ]
    })
    .collect()
}

fn capacity(record: &Record) -> Vec<Vec<String>> {
    let delivered = figures::percent(record.delivered_gpu_hours, record.asked_gpu_hours);
    let share = delivered.map_or(String::new(), |percent| format!(" ({percent:.2}%)"));
    let mut rows = vec![
        row("GPU-hours asked", hours(record.asked_gpu_hours)),
        row(
            "GPU-hours delivered",
            format!("{}{share}", hours(record.delivered_gpu_hours)),
        ),
    ];
    if !record.unrecovered.is_empty() {
        let open = record.unrecovered.len();
        rows.push(row("Failures whose capacity is not back", open));
    }
    // Nobody buys for a scenario without pools.
    if record.launches > 0 {
        rows.extend([
            row("Cost", format!("${:.2}", record.cost_dollars)),
            row("Machines bought", record.launches),
            row("Machines that never became a node", record.launches_failed),
        ]);
    }
    rows
}

/// Hours, with two decimals where they are few.
fn hours(hours: f64) -> String {
    if hours < 10.0 {
        format!("{hours:.2}")
    } else {
        format!("{hours:.1}")
    }
}

fn lost(record: &Record) -> Vec<Vec<String>> {
    let lost = record.lost_gpu_hours.iter();
    lost.map(|(cause, lost)| row(&plain(cause), hours(*lost)))
        .collect()
}

fn times(figures: &Figures) -> Vec<Vec<String>> {
    let times = [
        ("noticed", &figures.notice),
        ("capacity is back", &figures.recovery),
    ];
    let times = times.into_iter().filter(|(_, times)| times.count > 0);
    times
        .map(|(until, times)| percentiles(until, times))
        .collect()
}

fn percentiles(until: &str, times: &Percentiles) -> Vec<String> {
    let Percentiles {
        p50,
        p90,
        p99,
        longest,
        ..
    } = *times;
    let mut row = row(until, times.count);
    row.extend([p50, p90, p99, longest].map(span));
    row
}

fn assertions(record: &Record) -> Vec<Vec<String>> {
    let assertions = record.assertions.iter();
    assertions
        .map(|assertion| {
            let found = assertion.wrong.as_deref();
            vec![
                assertion.line.to_string(),
                plain(&assertion.what).into_owned(),
                found.map_or("as expected".to_owned(), |wrong| plain(wrong).into_owned()),
            ]
        })
        .collect()
}

fn violations(record: &Record) -> Vec<Vec<String>> {
    let violations = record.violations.iter();
    violations
        .map(|text| vec![plain(text).into_owned()])
        .collect()
}
