//! `navarch events`.

use navarch_api::v1;
use serde_json::Value;

use crate::args::{Events, Format, Global};
use crate::client::{Doing as _, Failure, connect};
use crate::output::{for_programs, remark, say};
use crate::values;

/// `navarch events`.
pub async fn run(global: &Global, asked: Events) -> Result<(), Failure> {
    let client = connect(global)?;
    let filter = v1::EventFilter {
        node_id: asked.node,
        instance_id: asked.instance,
        pool: asked.pool,
        incident_id: asked.incident,
        kinds: asked.kinds,
    };
    let request = v1::ListEventsRequest {
        filter: filter.clone().into(),
        limit: asked.limit,
        before_sequence: asked.before,
        latest: true,
        ..Default::default()
    };
    let page = client.list_events(request).await.doing("list events")?;
    if !asked.follow {
        let all = Value::Array(page.events.iter().map(values::event).collect());
        if !for_programs(global.output, &all)? {
            if page.events.is_empty() {
                remark("No events found");
            }
            for event in &page.events {
                say(&line(event));
            }
        }
        return Ok(());
    }
    print(global.output, &page.events)?;
    let request = v1::WatchEventsRequest {
        filter: filter.into(),
        after_sequence: Some(page.resume_after_sequence),
    };
    let mut stream = client.watch_events(request).await.doing("watch events")?;
    while let Some(answer) = stream.next().await.doing("watch events")? {
        if let Some(words) = gap(answer.lost_up_to_sequence) {
            remark(&words);
        }
        print(global.output, &answer.events)?;
    }
    Ok(())
}

/// What is said of events that the stream had to leave out.
fn gap(lost_up_to: u64) -> Option<String> {
    (lost_up_to > 0).then(|| {
        format!(
            "events up to sequence {lost_up_to} fell to retention before they could be told: keep \
             more with store.retention"
        )
    })
}

/// Prints events as they come: for programs, one JSON object a line.
fn print(format: Format, events: &[v1::Event]) -> Result<(), Failure> {
    for event in events {
        match format {
            Format::Table | Format::Wide => say(&line(event)),
            Format::Json => say(&values::event(event).to_string()),
            Format::Yaml => {
                say("---");
                for_programs(format, &values::event(event))?;
            }
        }
    }
    Ok(())
}

/// One event on one line.
pub fn line(event: &v1::Event) -> String {
    let about = [
        &event.node_id,
        &event.instance_id,
        &event.incident_id,
        &event.pool,
    ]
    .into_iter()
    .find(|id| !id.is_empty())
    .map_or("-", String::as_str);
    let times = if event.count > 1 {
        format!(" ({} times)", event.count)
    } else {
        String::new()
    };
    let by = match (event.details.get("actor"), event.details.get("address")) {
        (None, _) => String::new(),
        (Some(actor), None) => format!(" (by {actor})"),
        (Some(actor), Some(address)) => format!(" (by {actor} from {address})"),
    };
    format!(
        "{}  {:<24} {:<18} {}{by}{times}",
        values::clock(event.time.as_option()),
        event.kind,
        about,
        event.message
    )
}
