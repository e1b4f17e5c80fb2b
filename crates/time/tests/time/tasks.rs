//! Task groups and joined threads.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use navarch_time::{Clock, TaskFailure, Tasks, VirtualClock, spawn_thread, timeout};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tracing::subscriber::{set_default, with_default};

use crate::support::{Log, done, s, watched};

fn failure(name: &str, message: &str) -> TaskFailure {
    TaskFailure {
        name: name.to_owned(),
        message: message.to_owned(),
    }
}

/// Says when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn tasks_that_watch_the_token_end_without_abort() {
    let clock = VirtualClock::new();
    let tasks = Tasks::new();
    for name in ["b", "a"] {
        let token = tasks.token();
        tasks.spawn(name, async move { token.cancelled().await });
    }
    tasks.spawn("short", async {});
    yield_now().await;
    assert_eq!(tasks.names(), ["b", "a"], "in the order they started");
    assert_eq!(tasks.shutdown(&clock, s(5)).await, Vec::<String>::new());
    assert_eq!(tasks.names(), Vec::<String>::new());
    assert_eq!((clock.monotonic(), clock.pending()), (s(0), 0));
}

#[test]
fn tasks_that_do_not_end_are_aborted_and_named() {
    watched("a shutdown", s(20), shut_stubborn_tasks_down);
}

fn shut_stubborn_tasks_down() {
    let clock = VirtualClock::new();
    let inner = clock.clone();
    let log = Log::default();
    let _guard = set_default(log.clone());
    let dropped = Arc::new(AtomicBool::new(false));
    let held = Dropped(Arc::clone(&dropped));
    let aborted = clock.run(async move {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("stubborn", async move {
            let _held = held;
            pending::<()>().await;
        });
        let slow_clock = inner.clone();
        tasks.spawn("slow", async move {
            token.cancelled().await;
            slow_clock.sleep(s(4)).await;
        });
        tasks.spawn("another", pending());
        let aborted = tasks.shutdown(&inner, s(5)).await;
        assert_eq!(tasks.names(), Vec::<String>::new());
        aborted
    });
    assert_eq!(aborted, ["stubborn", "another"]);
    assert_eq!(
        clock.monotonic(),
        s(5),
        "the limit, and no grace was needed"
    );
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(
        log.lines(),
        [
            "WARN task did not end in time and was aborted task=stubborn limit=5s",
            "WARN task did not end in time and was aborted task=another limit=5s",
        ]
    );
}

#[tokio::test]
async fn nothing_starts_in_a_group_that_shuts_down() {
    let tasks = Tasks::new();
    let spawner = tasks.spawner();
    tasks.shutdown(&VirtualClock::new(), s(1)).await;
    let dropped = Arc::new(AtomicBool::new(false));
    let held = Dropped(Arc::clone(&dropped));
    spawner.spawn("late", async move {
        let _held = held;
        pending::<()>().await;
    });
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(tasks.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_task_can_start_tasks_in_its_group() {
    let tasks = Tasks::new();
    let spawner = tasks.spawner();
    let (sender, receiver) = oneshot::channel();
    tasks.spawn("parent", async move {
        spawner.spawn("child", async move {
            let _ = sender.send("hello");
        });
    });
    assert_eq!(receiver.await, Ok("hello"));
}

#[tokio::test]
async fn a_panic_is_reported_once_and_logged() {
    let log = Log::default();
    let _guard = set_default(log.clone());
    let tasks = Tasks::new();
    assert!(!done(&mut pin!(tasks.failed())));
    tasks.spawn("static", async { panic!("boom") });
    tasks.spawn("formatted", async { panic!("boom {}", 2) });
    tasks.spawn("odd", async { std::panic::panic_any(3) });
    assert_eq!(tasks.failed().await, failure("static", "boom"));
    assert_eq!(tasks.failed().await, failure("formatted", "boom 2"));
    let odd = tasks.failed().await;
    assert_eq!(odd.to_string(), "odd panicked: a panic without a message");
    assert!(!done(&mut pin!(tasks.failed())));
    assert_eq!(tasks.names(), Vec::<String>::new());
    assert_eq!(
        log.lines(),
        [
            "ERROR task panicked task=static panic=boom",
            "ERROR task panicked task=formatted panic=boom 2",
            "ERROR task panicked task=odd panic=a panic without a message",
        ]
    );
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

#[tokio::test]
async fn a_panic_while_a_task_is_dropped_is_reported() {
    let _guard = set_default(Log::default());
    let clock = VirtualClock::new();
    let tasks = Tasks::new();
    tasks.spawn("ends", async {
        let _bomb = PanicsWhenDropped;
    });
    tasks.spawn("aborted", async {
        let _bomb = PanicsWhenDropped;
        pending::<()>().await;
    });
    assert_eq!(tasks.failed().await, failure("ends", "in drop"));
    let mut shutdown = Box::pin(tasks.shutdown(&clock, s(1)));
    assert!(!done(&mut shutdown));
    clock.advance(s(1));
    assert_eq!(shutdown.await, ["aborted"]);
    assert_eq!(tasks.failed().await, failure("aborted", "in drop"));
}

#[tokio::test]
async fn failures_that_nobody_takes_are_bounded() {
    let _guard = set_default(Log::default());
    let tasks = Tasks::new();
    for n in 0..Tasks::MAX_FAILURES + 10 {
        tasks.spawn("many", async move { panic!("{n}") });
    }
    while !tasks.names().is_empty() {
        yield_now().await;
    }
    let mut taken = Vec::new();
    while taken.len() < Tasks::MAX_FAILURES {
        taken.push(tasks.failed().await.message);
    }
    assert_eq!(taken[0], "0");
    assert!(!done(&mut pin!(tasks.failed())));
}

#[tokio::test]
async fn a_dropped_group_takes_its_tasks_along() {
    let tasks = Tasks::new();
    let token = tasks.token();
    let dropped = Arc::new(AtomicBool::new(false));
    let held = Dropped(Arc::clone(&dropped));
    tasks.spawn("held", async move {
        let _held = held;
        pending::<()>().await;
    });
    drop(tasks);
    assert!(token.is_cancelled());
    yield_now().await;
    assert!(dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_group_under_a_token_ends_with_it_and_not_the_other_way() {
    let outer = Tasks::new();
    let first = Tasks::under(&outer.token());
    let second = Tasks::under(&outer.token());
    drop(first);
    assert!(!outer.token().is_cancelled());
    outer.token().cancel();
    assert!(second.token().is_cancelled());
}

#[test]
fn a_group_outlives_its_runtime() {
    watched("a runtime that ends before its tasks", s(20), || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let tasks = {
            let _inside = runtime.enter();
            let tasks = Tasks::new();
            tasks.spawn("left", pending());
            tasks
        };
        let handle = runtime.handle().clone();
        drop(runtime);
        assert_eq!(tasks.names(), Vec::<String>::new());
        let _inside = handle.enter();
        tasks.spawn("too late", pending());
        assert_eq!(tasks.names(), Vec::<String>::new());
    });
}

#[test]
#[should_panic(expected = "runtime")]
fn a_task_needs_a_runtime() {
    Tasks::new().spawn("outside", pending());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_blocks_its_thread_is_left_behind_and_named() {
    let log = Log::default();
    let clock = VirtualClock::new();
    let tasks = Arc::new(Tasks::new());
    let (release, blocked) = mpsc::channel::<()>();
    let (started, running) = oneshot::channel();
    tasks.spawn("blocking", async move {
        let _ = started.send(());
        let _ = blocked.recv();
    });
    running.await.unwrap();
    let mut shutdown = Box::pin(tasks.shutdown(&clock, s(5)));
    with_default(log.clone(), || {
        assert!(!done(&mut shutdown));
        clock.advance(s(5));
        assert!(!done(&mut shutdown));
        clock.advance(Tasks::ABORT_GRACE);
        assert!(done(&mut shutdown));
    });
    drop(shutdown);
    assert_eq!(
        log.lines(),
        [
            "WARN task did not end in time and was aborted task=blocking limit=5s",
            "ERROR aborted task blocks its thread and was left behind task=blocking",
        ]
    );
    release.send(()).unwrap();
    while !tasks.names().is_empty() {
        yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_start_during_a_shutdown_are_not_left_behind() {
    let clock = VirtualClock::new();
    for _ in 0..200 {
        let tasks = Tasks::new();
        for _ in 0..2 {
            let spawner = tasks.spawner();
            tasks.spawn("fork", async move {
                for _ in 0..20 {
                    spawner.spawn("child", pending());
                }
                pending::<()>().await;
            });
        }
        let shutdown = tasks.shutdown(&clock, s(0));
        let real = navarch_time::RealClock::new();
        let aborted = timeout(&real, s(20), shutdown)
            .await
            .expect("nobody is left");
        assert!(aborted.len() >= 2, "{aborted:?}");
        assert_eq!(tasks.names(), Vec::<String>::new());
    }
}

#[test]
fn a_thread_has_its_name_and_returns_its_result() {
    let thread = spawn_thread("store-writer", || {
        std::thread::current().name().map(str::to_owned)
    })
    .unwrap();
    assert_eq!(thread.name(), "store-writer");
    assert_eq!(thread.join(), Ok(Some("store-writer".to_owned())));
}

#[test]
fn a_panic_of_a_thread_reaches_its_owner() {
    let thread = spawn_thread("writer", || panic!("disk gone")).unwrap();
    assert_eq!(thread.join(), Err::<(), _>(failure("writer", "disk gone")));

    let log = Log::default();
    let thread = spawn_thread("writer", || panic!("disk gone")).unwrap();
    with_default(log.clone(), || drop::<navarch_time::Thread<()>>(thread));
    assert_eq!(
        log.lines(),
        ["ERROR thread panicked thread=writer panic=disk gone"]
    );
}

#[test]
fn dropping_a_thread_waits_for_it() {
    let ended = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel::<()>();
    let thread = spawn_thread("waits", {
        let ended = Arc::clone(&ended);
        move || {
            let _ = receiver.recv();
            ended.store(true, Ordering::SeqCst);
        }
    })
    .unwrap();
    assert!(!thread.is_finished());
    drop(sender);
    drop(thread);
    assert!(ended.load(Ordering::SeqCst));
}

#[test]
fn a_hostile_thread_name_is_an_error() {
    let error = spawn_thread("a\0b", || {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the thread name "a\0b" holds a zero byte: remove it"#
    );
}
