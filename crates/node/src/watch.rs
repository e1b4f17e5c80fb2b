//! The stream by which commands are pushed.

use std::time::Duration;

use navarch_api::{Cause, Client, ClientError, Code, Incoming, v1, wire};
use navarch_time::{Backoff, Clock, SharedClock, timeout};

/// How long the stream may take to open.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long it may be silent if the control plane does not say.
const USUAL_GAP: Duration = Duration::from_secs(90);
/// Added to the gap that the control plane promises, for the way.
const GRACE: Duration = Duration::from_secs(5);
/// Waits before the stream is opened again.
pub(crate) const REOPEN: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(30),
    multiplier: 2.0,
    jitter: 0.2,
};
/// Before it is opened again at a control plane that has no such stream.
pub(crate) const REOPEN_OLDER: Duration = Duration::from_secs(600);

/// One step of the stream: an answer, and the stream if it goes on.
pub(crate) enum Heard {
    /// Commands, perhaps none, and what to listen to next.
    Commands(Vec<wire::NodeCommand>, Listening),
    /// The stream ended.
    Ended(ClientError),
}

/// An open stream, and how long it may be silent.
pub(crate) struct Listening {
    incoming: Incoming<v1::WatchCommandsResponse>,
    gap: Duration,
}

/// Opens the stream, after `wait`, and waits for its first answer.
pub(crate) async fn open(
    client: Client,
    clock: SharedClock,
    request: v1::WatchCommandsRequest,
    wait: Duration,
) -> Heard {
    if !wait.is_zero() {
        clock.sleep(wait).await;
    }
    match timeout(&*clock, OPEN_LIMIT, client.watch_commands(request)).await {
        Ok(Ok(incoming)) => {
            let listening = Listening {
                incoming,
                gap: OPEN_LIMIT,
            };
            listening.next(&*clock).await
        }
        Ok(Err(error)) => Heard::Ended(error),
        Err(_) => Heard::Ended(silent(OPEN_LIMIT)),
    }
}

impl Listening {
    /// Waits for the next answer.
    pub(crate) async fn next(mut self, clock: &dyn Clock) -> Heard {
        match timeout(clock, self.gap, self.incoming.next()).await {
            Ok(Ok(Some(answer))) => {
                self.gap = match u64::try_from(answer.next_within_milliseconds) {
                    Ok(within) if within > 0 => Duration::from_millis(within).saturating_add(GRACE),
                    _ => USUAL_GAP,
                };
                Heard::Commands(answer.commands, self)
            }
            Ok(Ok(None)) => Heard::Ended(ClientError {
                code: Code::Unavailable,
                message: "the control plane ended the stream of commands".to_owned(),
                cause: Cause::ConnectionLost,
                retry_after: None,
            }),
            Ok(Err(error)) => Heard::Ended(error),
            Err(_) => Heard::Ended(silent(self.gap)),
        }
    }
}

fn silent(limit: Duration) -> ClientError {
    ClientError {
        code: Code::DeadlineExceeded,
        message: format!("nothing on the stream of commands within {limit:?}"),
        cause: Cause::Deadline,
        retry_after: None,
    }
}
