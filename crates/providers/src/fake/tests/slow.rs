//! Calls that are slow by order, and time that passes, on a virtual clock.

use std::pin::pin;

use navarch_time::VirtualClock;

use super::*;

/// The sleepers of a cloud at rest: its purge, and its look for spot machines to take back.
const AT_REST: usize = 2;

fn request(name: &str) -> LaunchRequest {
    let mut request = super::super::translate::request_for(&spec(name), 8, &AgentAccess::default());
    // A machine without an agent: no process, which no virtual clock drives.
    request.agent = None;
    request
}

async fn cloud_at(directory: &Path, clock: &VirtualClock) -> Cloud {
    let mut options = options(directory, GOOD);
    options.clock = clock.shared();
    Cloud::open(options).await.expect("the cloud opens")
}

fn latency(when: LatencyWhen) -> CloudFault {
    CloudFault::Latency {
        milliseconds: 30_000,
        when,
        operation: Some(Operation::Launch),
        count: Some(1),
    }
}

async fn names(cloud: &Cloud) -> Vec<String> {
    let page = cloud.page(PageQuery::default()).await.expect("a page");
    page.instances.into_iter().map(|view| view.name).collect()
}

#[tokio::test]
async fn a_slow_call_takes_effect_before_or_after_its_latency() {
    let directory = TempDir::new().expect("a directory");
    let clock = VirtualClock::new();
    let cloud = cloud_at(directory.path(), &clock).await;
    for (when, name, meanwhile) in [
        (LatencyWhen::Before, "nv-1", vec![]),
        (LatencyWhen::After, "nv-2", vec!["nv-1", "nv-2"]),
    ] {
        cloud.order(latency(when)).await.expect("ordered");
        let mut launch = pin!(cloud.launch(request(name)));
        tokio::select! {
            biased;
            answer = &mut launch => panic!("answered at once: {answer:?}"),
            () = clock.wait_for_sleepers(AT_REST + 1) => {}
        }
        assert_eq!(names(&cloud).await, meanwhile, "{when:?}");
        clock.advance(Duration::from_secs(30));
        assert_eq!(launch.await.expect("a machine").name, name);
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_call_takes_effect_though_its_caller_is_gone() {
    let directory = TempDir::new().expect("a directory");
    let clock = VirtualClock::new();
    let cloud = cloud_at(directory.path(), &clock).await;
    cloud
        .order(latency(LatencyWhen::Before))
        .await
        .expect("ordered");
    let gave_up = tokio::select! {
        biased;
        answer = cloud.launch(request("nv-1")) => panic!("answered at once: {answer:?}"),
        () = clock.wait_for_sleepers(AT_REST + 1) => true,
    };
    assert!(gave_up && names(&cloud).await.is_empty());
    clock.advance(Duration::from_secs(30));
    // The same token waits behind nothing: it answers the machine, whoever made it.
    let again = cloud.launch(request("nv-1")).await.expect("a machine");
    let real = RealClock::shared();
    let made = eventually(&real, LONG, async || clock.pending() == AT_REST).await;
    assert!(made, "the first call ended");
    assert_eq!(names(&cloud).await, ["nv-1"]);
    assert_eq!(cloud.get(&again.id).await, Ok(Some(again.clone())));
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_machine_that_ended_is_forgotten_after_an_hour_with_its_files() {
    let directory = TempDir::new().expect("a directory");
    let clock = VirtualClock::new();
    let cloud = cloud_at(directory.path(), &clock).await;
    let view = cloud.launch(request("nv-1")).await.expect("a machine");
    let files = directory.path().join("machines").join(&view.id);
    std::fs::create_dir_all(&files).expect("made");
    cloud.terminate(&view.id).await.expect("accepted");
    let real = RealClock::shared();
    let ended = eventually(&real, LONG, async || {
        let got = cloud.get(&view.id).await.expect("an answer");
        got.is_some_and(|view| view.status == CloudStatus::Terminated)
    });
    assert!(ended.await, "it ends");
    clock.advance(Duration::from_secs(3000));
    clock.wait_for_sleepers(AT_REST).await;
    assert!(cloud.get(&view.id).await.expect("an answer").is_some());
    clock.advance(Duration::from_secs(600));
    let forgotten = eventually(&real, LONG, async || {
        cloud.get(&view.id).await.expect("an answer").is_none() && !files.exists()
    });
    assert!(forgotten.await, "it is forgotten");
    cloud.shutdown().await;
}
