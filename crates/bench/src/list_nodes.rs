//! `list-nodes`: ListNodes of small and large fleets: quiet, beating, and wholly changed.

use std::time::Duration;

use navarch_api::wire::ListNodesRequest;
use navarch_time::{Clock as _, RealClock};

use crate::Result;
use crate::background::Beating;
use crate::fleet::{self, BEAT, BEAT_EVERY, LIST};
use crate::load::{Lanes, Loop, saturate, send_all};
use crate::machine::{Table, bytes, milliseconds, percent, rate};
use crate::process::Server;
use crate::raw::{Caller, Protocol, Request};

/// Ten times what the Go project does, in answers a second.
const TARGET: f64 = 6070.0;

/// The least number of times that every node beats and the list is taken.
const ROUNDS: usize = 20;

/// The fewest and the most pairs of lists that are compared for each line, and the bytes of them
/// that are kept until nothing is measured.
const PAIRS: std::ops::RangeInclusive<usize> = 3..=25;
const KEPT_BYTES: usize = 128 << 20;

/// How long and how large.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Sizes of the fleet
    #[arg(long, value_delimiter = ',', default_values_t = [200, 10_000])]
    pub nodes: Vec<usize>,
    /// Length of one measurement, in seconds
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
}

/// What the nodes do while they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Nothing.
    Quiet,
    /// Each beats once in [`BEAT_EVERY`].
    Beating,
    /// All beat before each round of lists.
    AllBeat,
}

impl Doing {
    const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Beating => "beating",
            Self::AllBeat => "all beat",
        }
    }
}

/// Measures, and says what came of it.
pub async fn run(settings: Settings) -> Result<Table> {
    let mut table = Table::new(
        "ListNodes",
        &[
            "nodes",
            "protocol",
            "fleet",
            "connections",
            "answers/s",
            "p50",
            "p99",
            "changed",
            "body",
        ],
    );
    for nodes in &settings.nodes {
        let server = Server::start(None).await?;
        fleet::populate(&server, *nodes)?;
        for doing in [Doing::Quiet, Doing::Beating, Doing::AllBeat] {
            let background = match doing {
                Doing::Beating => Some(Beating::start(&server, *nodes)?),
                Doing::Quiet | Doing::AllBeat => None,
            };
            for protocol in [Protocol::Json, Protocol::Proto] {
                for connections in [1, 8] {
                    let measured = Measured {
                        nodes: *nodes,
                        doing,
                        protocol,
                        connections,
                    };
                    let (row, found) = measured.measure(&server, settings.seconds)?;
                    if (*nodes, protocol, connections) == (200, Protocol::Json, 8)
                        && doing != Doing::AllBeat
                    {
                        let name = doing.name();
                        let what = format!("ListNodes, 200 nodes, {name}, JSON, 8 connections");
                        let target = format!("{} a second", rate(TARGET));
                        table.goal(what, &target, rate(found), found >= TARGET);
                    }
                    crate::progress(&row.join("  "))?;
                    table.row(row);
                }
            }
            if let Some(background) = background {
                let paced = background.stop()?;
                if paced.late * 20 > paced.answered {
                    table.note(format!(
                        "{nodes} nodes: {} of {} heartbeats were late.",
                        paced.late,
                        paced.answered + paced.late
                    ));
                }
            }
        }
        server.must_be_well()?;
    }
    table.note(format!(
        "`quiet`: nothing changes. `beating`: every node beats once in {} s meanwhile. `all beat`: \
         every node beats, then each connection takes one list, again and again, at least {ROUNDS} \
         times; the time of the beats does not count. `changed` is the share of nodes that differ \
         between two answers, one right after the other (for `all beat`, of two rounds): the rest \
         may come from what the server encoded before. The caller reads whole answers and shares \
         the cores with the server.",
        BEAT_EVERY.as_secs()
    ));
    Ok(table)
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
struct Measured {
    nodes: usize,
    doing: Doing,
    protocol: Protocol,
    connections: usize,
}

impl Measured {
    fn measure(self, server: &Server, seconds: f64) -> Result<(Vec<String>, f64)> {
        let caller = Caller {
            protocol: self.protocol,
            ..fleet::cheap(server)
        };
        let mut lanes = Lanes::open(&caller, LIST, self.connections)?;
        let request = caller.request(LIST, &ListNodesRequest::default())?;
        let requests = vec![vec![request.clone()]];
        // Every answer is whole by its length and its end; the first is counted node by node.
        let mut length = 0;
        let last = fleet::id(self.nodes - 1);
        let mut check = |body: &[u8]| {
            if length == 0 {
                length = body.len();
                let found = nodes_of(self.protocol, body)?.len();
                if found != self.nodes {
                    return Err(format!("{found} nodes listed, not {}", self.nodes).into());
                }
            }
            let tail = &body[body.len() - body.len().min(4096)..];
            let whole = tail.windows(last.len()).any(|text| text == last.as_bytes());
            if !whole || body.len() * 100 < length * 99 {
                let found = body.len();
                return Err(format!("an answer of {found} bytes, not about {length}").into());
            }
            Ok(())
        };
        // Once for nothing: what the server keeps of earlier lists is there.
        let warm = Duration::from_millis(200);
        let warmed = saturate(&mut lanes, warm, &requests, &mut check)?;
        let time = Duration::from_secs_f64(seconds);
        let mut pairs = Pairs::new(time, warmed.bytes);
        let done = if self.doing == Doing::AllBeat {
            rounds(server, &mut lanes, self, &request, time, |body, first| {
                if first {
                    pairs.note(body, true);
                }
                check(body)
            })?
        } else {
            saturate(&mut lanes, time, &requests, |body| {
                pairs.note(body, false);
                check(body)
            })?
        };
        let changed = pairs.changed(self.protocol)?;
        if self.doing == Doing::AllBeat && changed < 1.0 {
            let share = percent(changed);
            return Err(format!("every node beat, and {share} of the nodes changed").into());
        }
        let row = vec![
            rate(self.nodes as f64),
            self.protocol.name().to_owned(),
            self.doing.name().to_owned(),
            self.connections.to_string(),
            rate(done.rate),
            milliseconds(done.quantile(0.5)),
            milliseconds(done.quantile(0.99)),
            percent(changed),
            bytes(done.bytes as u64),
        ];
        Ok((row, done.rate))
    }
}

/// Lets every node beat, then lists once on each connection, for a time. `check` hears of each
/// body, and whether it is the first of its round. The rate is that of the lists alone.
fn rounds(
    server: &Server,
    lanes: &mut Lanes,
    measured: Measured,
    request: &Request,
    time: Duration,
    mut check: impl FnMut(&[u8], bool) -> Result<()>,
) -> Result<Loop> {
    let caller = fleet::cheap(server);
    let beats = fleet::beats(&caller, measured.nodes)?;
    let mut beating = Lanes::open(&caller, BEAT, 64)?;
    let clock = RealClock::new();
    let began = clock.monotonic();
    let (mut done, mut listing, mut count) = (Loop::default(), Duration::ZERO, 0);
    while count < ROUNDS || clock.monotonic() - began < time {
        count += 1;
        send_all(
            &mut beating,
            beats.len(),
            |at| Ok(beats[at].clone()),
            fleet::beaten,
        )?;
        let mut left = lanes.count();
        let started = clock.monotonic();
        let mut ended = started;
        let mut first = true;
        lanes.run(
            |_| {
                let next = (left > 0).then(|| request.clone());
                left = left.saturating_sub(1);
                Ok(next)
            },
            |_, took, body| {
                ended = clock.monotonic();
                done.took.push(took);
                done.bytes = body.len();
                check(body, std::mem::take(&mut first))
            },
        )?;
        listing += ended - started;
    }
    done.rate = done.took.len() as f64 / listing.as_secs_f64();
    done.took.sort_unstable();
    Ok(done)
}

/// Copies of answers, to be compared once nothing is measured.
struct Pairs {
    clock: RealClock,
    began: Duration,
    gap: Duration,
    most: usize,
    kept: Vec<Vec<u8>>,
}

impl Pairs {
    /// Of answers of about this length, over this time.
    fn new(time: Duration, bytes: usize) -> Self {
        let clock = RealClock::new();
        let most = KEPT_BYTES / (2 * bytes.max(1));
        let most = most.clamp(*PAIRS.start(), *PAIRS.end());
        Self {
            began: clock.monotonic(),
            clock,
            gap: time / u32::try_from(most + 1).expect("a small number"),
            most: 2 * most,
            kept: Vec::new(),
        }
    }

    /// Keeps an answer if its turn came: now and then one and the next.
    fn note(&mut self, body: &[u8], always: bool) {
        let full = self.kept.len() == self.most;
        let second = !self.kept.len().is_multiple_of(2);
        let pair = u32::try_from(self.kept.len() / 2 + 1).unwrap_or(u32::MAX);
        let due = || self.clock.monotonic() - self.began >= self.gap * pair;
        if !full && (second || always || due()) {
            self.kept.push(body.to_vec());
        }
    }

    /// The mean share of nodes that differ between the answers of a pair.
    fn changed(&self, protocol: Protocol) -> Result<f64> {
        let (pairs, _) = self.kept.as_chunks::<2>();
        let mut shares = 0.0;
        for [one, next] in pairs {
            let (one, next) = (nodes_of(protocol, one)?, nodes_of(protocol, next)?);
            if one.len() != next.len() {
                return Err(format!("{} nodes and then {}", one.len(), next.len()).into());
            }
            let differ = one.iter().zip(&next).filter(|(one, next)| one != next);
            shares += differ.count() as f64 / one.len().max(1) as f64;
        }
        Ok(shares / pairs.len() as f64)
    }
}

/// The nodes of an answer, each as its bytes.
pub fn nodes_of(protocol: Protocol, body: &[u8]) -> Result<Vec<&[u8]>> {
    match protocol {
        Protocol::Json => Ok(objects(body)),
        Protocol::Proto => fields(body).ok_or_else(|| "this is no list in protobuf".into()),
        Protocol::Grpc => Err("lists are not taken over gRPC".into()),
    }
}

/// What lies between the node ids of a list in JSON.
fn objects(body: &[u8]) -> Vec<&[u8]> {
    const ID: &[u8] = b"\"nodeId\":";
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(quote) = body[at..].iter().position(|byte| *byte == b'"') {
        at += quote;
        if body[at..].starts_with(ID) {
            starts.push(at);
        }
        at += 1;
    }
    let ends = starts.iter().skip(1).copied().chain([body.len()]);
    let bounds = starts.iter().copied().zip(ends);
    bounds.map(|(start, end)| &body[start..end]).collect()
}

/// The values of field 1 of a message that has no other.
fn fields(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut values = Vec::new();
    while let Some((tag, mut rest)) = body.split_first() {
        if *tag != 10 {
            return None;
        }
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            length |= usize::from(byte & 127) << shift;
            if byte & 128 == 0 {
                break;
            }
            shift += 7;
            if shift > 28 {
                return None;
            }
        }
        let (value, after) = rest.split_at_checked(length)?;
        values.push(value);
        body = after;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use buffa::Message as _;
    use navarch_api::wire::{ListNodesResponse, NodeInfo};

    fn list(regions: &[&str]) -> ListNodesResponse {
        let node = |(at, region): (usize, &&str)| NodeInfo {
            node_id: fleet::id(at),
            region: (*region).to_owned(),
            instance_type: "x".repeat(300),
            ..Default::default()
        };
        ListNodesResponse {
            nodes: regions.iter().enumerate().map(node).collect(),
        }
    }

    #[test]
    fn the_nodes_that_differ_are_counted() {
        let (one, next) = (list(&["a", "b", "c", "d"]), list(&["a", "x", "c", "y"]));
        for protocol in [Protocol::Json, Protocol::Proto] {
            let mut pairs = Pairs::new(Duration::ZERO, 1);
            for list in [&one, &next, &one, &one] {
                pairs.note(&protocol.body(list).expect("it encodes"), true);
            }
            let changed = pairs.changed(protocol).expect("both are lists");
            assert!((changed - 0.25).abs() < 1e-9, "{protocol:?}: {changed}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let whole = list(&["a"]).encode_to_vec();
        assert_eq!(fields(&whole).map(|nodes| nodes.len()), Some(1));
        for bad in [
            &whole[..whole.len() - 1],
            &[18, 0],
            &[10],
            &[10, 255, 255, 255, 255, 255],
        ] {
            assert_eq!(fields(bad), None, "{bad:?}");
        }
        assert!(objects(b"{}").is_empty());
    }
}
