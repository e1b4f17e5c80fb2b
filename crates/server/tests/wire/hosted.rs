//! The API of a fleet that somebody else drives.

use std::sync::Arc;

use navarch_config::Config;
use navarch_core::{Input, Settings};
use navarch_model::{FleetId, Idempotency, Stamp, State, Time};
use navarch_policy::HealthPolicy;
use navarch_server::hosted::{Asked, Desk, Hosted, Options};
use navarch_store::{MemoryDisk, MemoryStore, Store as _};
use navarch_time::VirtualClock;
use serde_json::json;

use crate::support::rpc::{Flavour, Outcome, call};

const NOON: Stamp = Stamp {
    core: Time(5_000_000),
    wall: Time(43_200_000_000),
};

async fn hosted() -> (Hosted, Desk) {
    let mut config = Config::default();
    "127.0.0.1:0".clone_into(&mut config.server.address);
    let fleet = FleetId::new("fleet");
    let options = Options {
        settings: Arc::new(Settings::new(&config, |_| Idempotency::None)),
        config,
        source: "a test".to_owned(),
        policy: (HealthPolicy::builtin(), String::new()),
        state: State::new(fleet.clone()),
        now: NOON,
        history: MemoryStore::open(&MemoryDisk::new(fleet)).reader(),
        insecure_no_auth: false,
        clock: VirtualClock::new().shared(),
    };
    Hosted::start(options).await.expect("a free port")
}

async fn ask(hosted: &Hosted, method: &str, request: serde_json::Value) -> Outcome {
    call(
        hosted.address(),
        Flavour::ConnectJson,
        method,
        None,
        &request,
    )
    .await
}

fn code(outcome: Outcome) -> String {
    outcome.expect_err("it is refused").0
}

#[tokio::test]
async fn what_is_asked_reaches_the_desk_and_time_is_what_the_desk_says() {
    let (hosted, mut desk) = hosted().await;
    let info = ask(&hosted, "FleetService/GetServerInfo", json!({})).await;
    assert_eq!(info.expect("it answers")["time"], "1970-01-01T12:00:00Z");
    let later = Stamp {
        wall: Time(43_201_000_000),
        ..NOON
    };
    desk.is(later, true);
    let info = ask(&hosted, "FleetService/GetServerInfo", json!({})).await;
    assert_eq!(info.expect("it answers")["time"], "1970-01-01T12:00:01Z");

    let scale = json!({"pool": "main", "nodes": 2});
    let asked = async {
        let Asked::Operator(input, waits) = desk.next().await else {
            panic!("a person asked");
        };
        let Input::By { actor, input } = &input else {
            panic!("nobody knows who asked: {input:?}");
        };
        assert_eq!((&*actor.name, &*actor.address), ("anybody", "127.0.0.1"));
        assert!(matches!(**input, Input::ScalePool { nodes: 2, .. }));
        waits.refuse("not here");
    };
    let (answer, ()) = tokio::join!(ask(&hosted, "FleetService/ScalePool", scale.clone()), asked);
    let (code_of, message) = answer.expect_err("it is refused");
    assert_eq!((&*code_of, &*message), ("failed_precondition", "not here"));

    let register = json!({"nodeId": "a", "provider": "mine"});
    let asked = async {
        match desk.next().await {
            Asked::Agent(Input::Register(_), waits) => waits.refuse("not here"),
            other => panic!("an agent asked, and not {other:?}"),
        }
    };
    let register = ask(&hosted, "RegisterNode", register);
    let (answer, ()) = tokio::join!(register, asked);
    assert_eq!(code(answer), "failed_precondition");

    // Nobody waits for ever for a desk that was left.
    drop(desk);
    let answer = ask(&hosted, "FleetService/ScalePool", scale).await;
    assert_eq!(code(answer), "unavailable");
    hosted.stop().await;
}
