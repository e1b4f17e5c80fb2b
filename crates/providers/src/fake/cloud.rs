//! The fake cloud itself: calls pass the ordered faults, change the records, move the machines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use navarch_model::{
    CloudStatus, IdSource, Offer, ProviderError, ProviderErrorKind, ProviderInstanceId,
    TerminateAnswer, ids,
};
use navarch_time::{Clock as _, Rng, SharedClock, Spawner, Tasks};
use tokio::sync::{Semaphore, oneshot, watch};

use super::book::{Book, Record};
use super::debug;
use super::disk::{CloudError, Ledger, private_directory};
use super::machine::{AgentAccess, AgentCommand, Goal, Home, Machine, STATE_FLAG};
use super::market::Market;
use super::orders::{CloudFault, Gate, Operation, Order, pass};
use super::process::{self, Identity};
use super::wire::{InstanceView, LaunchRequest, Page, PageQuery};
use crate::{Fault, FaultKind};

/// How many machines may be live at once unless told otherwise: each is a process.
const QUOTA: usize = 1000;

/// How many calls may be under way at once. More are refused; slow ones by order add up.
const MAX_CALLS: usize = 1024;

/// How often machines that ended long ago are forgotten.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// How often the cloud looks whether the notice of a spot machine passed.
const INTERRUPT_EVERY: Duration = Duration::from_millis(250);

/// How long a stop of everything may take before tasks are aborted and their agents killed.
/// Above the grace of one agent, and low enough that Ctrl-C ends within five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// What a fake cloud is made of.
pub struct CloudOptions {
    /// Where it keeps its records and its machines' files. One cloud at a time.
    pub data_dir: PathBuf,
    /// The program that its machines run.
    pub agent: AgentCommand,
    /// How agents reach the control plane where their launch did not say.
    pub access: AgentAccess,
    /// How many machines may be live at once.
    pub quota: usize,
    /// Time.
    pub clock: SharedClock,
    /// Where the ids of machines come from.
    pub rng: Box<dyn Rng>,
}

impl CloudOptions {
    /// Options with the usual quota, no default access, and real time and randomness.
    pub fn new(data_dir: PathBuf, agent: AgentCommand) -> Self {
        Self {
            data_dir,
            agent,
            access: AgentAccess::default(),
            quota: QUOTA,
            clock: navarch_time::RealClock::shared(),
            rng: Box::new(navarch_time::OsRng),
        }
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The cloud refuses.
    Error(ProviderError),
    /// The call took effect and its answer is lost on the way.
    Lost,
}

impl From<ProviderError> for Refusal {
    fn from(error: ProviderError) -> Self {
        Self::Error(error)
    }
}

/// What each machine is to do, as the machines hear it. Only the ledger's owner writes here, in
/// the order of the book's changes.
#[derive(Default)]
struct Goals(Mutex<BTreeMap<ProviderInstanceId, watch::Sender<Goal>>>);

/// A machine whose life is to begin.
type Begin = (Record, watch::Receiver<Goal>);

impl Goals {
    /// Tells every machine what the book wants of it. Returns those whose life has not begun.
    fn follow(&self, book: &Book) -> Vec<Begin> {
        let mut goals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = std::mem::take(&mut *goals);
        let mut begin = Vec::new();
        for record in book.records() {
            let goal = match record.should_run() {
                false => Goal::End,
                true if book.hangs(&record.id) => Goal::Hang,
                true => Goal::Run,
            };
            if let Some(sender) = present.remove(&record.id) {
                sender.send_if_modified(|present| std::mem::replace(present, goal) != goal);
                goals.insert(record.id.clone(), sender);
            } else if record.may_run() {
                let (sender, receiver) = watch::channel(goal);
                goals.insert(record.id.clone(), sender);
                begin.push((record.clone(), receiver));
            }
        }
        begin
    }
}

/// A fake cloud that runs in this process. Clones are the same cloud. Machines end when the
/// last clone is dropped, and when this process dies in any way.
#[derive(Clone)]
pub struct Cloud {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

struct Inner {
    ledger: Arc<Ledger>,
    clock: SharedClock,
    rng: Mutex<Box<dyn Rng>>,
    machines_dir: PathBuf,
    agent: AgentCommand,
    access: AgentAccess,
    quota: usize,
    goals: Arc<Goals>,
    calls: Arc<Semaphore>,
    http: reqwest::Client,
    spawner: Spawner,
}

impl Cloud {
    /// Takes the data directory and brings back the machines that were live.
    ///
    /// # Errors
    ///
    /// The directory is in use, its file is damaged or newer, or the system refuses.
    pub async fn open(options: CloudOptions) -> Result<Self, CloudError> {
        let CloudOptions {
            data_dir,
            agent,
            access,
            quota,
            clock,
            rng,
        } = options;
        private_directory(&data_dir)?;
        let data_dir = data_dir
            .canonicalize()
            .map_err(CloudError::io("resolve", &data_dir))?;
        let ledger = Arc::new(Ledger::open_when_free(&data_dir, &*clock).await?);
        let tasks = Tasks::new();
        let inner = Arc::new(Inner {
            ledger,
            clock,
            rng: Mutex::new(rng),
            machines_dir: data_dir.join("machines"),
            agent,
            access,
            quota,
            goals: Arc::default(),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            http: http_client().map_err(|error| CloudError::Io {
                doing: "make an HTTP client for",
                path: data_dir,
                source: std::io::Error::other(error),
            })?,
            spawner: tasks.spawner(),
        });
        inner.bring_back().await?;
        let weak = Arc::downgrade(&inner);
        let (clock, stop) = (Arc::clone(&inner.clock), tasks.token());
        tasks.spawn("fake-cloud purge", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = clock.sleep(PURGE_EVERY) => {}
                }
                let Some(inner) = weak.upgrade() else {
                    return;
                };
                inner.purge().await;
            }
        });
        let weak = Arc::downgrade(&inner);
        let (clock, stop) = (Arc::clone(&inner.clock), tasks.token());
        tasks.spawn("fake-cloud interruptions", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = clock.sleep(INTERRUPT_EVERY) => {}
                }
                let Some(inner) = weak.upgrade() else {
                    return;
                };
                inner.interrupt().await;
            }
        });
        Ok(Self {
            inner,
            tasks: Arc::new(tasks),
        })
    }

    /// Makes a machine, or answers with the one that the token made.
    ///
    /// # Errors
    ///
    /// The request makes no sense, the quota is used up, or a fault is on order.
    pub async fn launch(&self, request: LaunchRequest) -> Result<InstanceView, Refusal> {
        self.call(Operation::Launch, true, |inner, gate| async move {
            inner.launch(request, !gate.never_boots).await
        })
        .await
    }

    /// One page of machines.
    ///
    /// # Errors
    ///
    /// The query makes no sense, or a fault is on order.
    pub async fn page(&self, query: PageQuery) -> Result<Page, Refusal> {
        let operation = match query.name {
            Some(_) => Operation::Status,
            None => Operation::List,
        };
        let first = query.page_token.is_empty();
        self.call(operation, first, |inner, gate| async move {
            let now = inner.clock.wall();
            let read = inner
                .ledger
                .run(move |keeper| keeper.book().page(&query, &gate.listing, now));
            read.await
        })
        .await
    }

    /// The machine with the cloud's id.
    ///
    /// # Errors
    ///
    /// A fault is on order.
    pub async fn get(&self, id: &str) -> Result<Option<InstanceView>, Refusal> {
        let id = id.to_owned();
        self.call(Operation::Status, true, |inner, _| async move {
            let read = inner.ledger.run(move |keeper| Ok(keeper.book().get(&id)));
            read.await
        })
        .await
    }

    /// Ends a machine, now or soon.
    ///
    /// # Errors
    ///
    /// The end cannot be written down, or a fault is on order.
    pub async fn terminate(&self, id: &str) -> Result<TerminateAnswer, Refusal> {
        let id = id.to_owned();
        self.call(Operation::Terminate, true, |inner, _| async move {
            inner.terminate(id).await
        })
        .await
    }

    /// Orders a fault of the cloud.
    ///
    /// # Errors
    ///
    /// The fault makes no sense, or no such machine runs.
    pub async fn order(&self, fault: CloudFault) -> Result<Order, ProviderError> {
        let inner = Arc::clone(&self.inner);
        self.to_the_end(async move { inner.order(fault).await })
            .await
    }

    /// The faults on order.
    ///
    /// # Errors
    ///
    /// The cloud is stopping.
    pub async fn orders(&self) -> Result<Vec<Order>, ProviderError> {
        let read = self
            .inner
            .ledger
            .run(|keeper| Ok(keeper.book().orders.clone()));
        read.await
    }

    /// What the cloud sells from now on.
    ///
    /// # Errors
    ///
    /// It makes no sense, or cannot be written down.
    pub async fn sell(&self, market: Market) -> Result<(), ProviderError> {
        let inner = Arc::clone(&self.inner);
        self.to_the_end(async move { inner.change(|book| book.sell(market)).await })
            .await
    }

    /// What the cloud sells.
    ///
    /// # Errors
    ///
    /// The cloud is stopping.
    pub async fn market(&self) -> Result<Market, ProviderError> {
        let read = self.inner.ledger.run(|keeper| Ok(keeper.book().market()));
        read.await
    }

    /// The price list; `None` while everything is sold.
    ///
    /// # Errors
    ///
    /// A fault is on order.
    pub async fn offers(&self) -> Result<Option<Vec<Offer>>, Refusal> {
        self.call(Operation::Offerings, true, |inner, _| async move {
            let read = inner.ledger.run(|keeper| Ok(keeper.book().offers()));
            read.await
        })
        .await
    }

    /// Takes away the faults on order, or one of them. Machines that hung go on.
    ///
    /// # Errors
    ///
    /// It cannot be written down, or there is no such order.
    pub async fn clear_orders(&self, id: Option<u64>) -> Result<(), ProviderError> {
        let inner = Arc::clone(&self.inner);
        self.to_the_end(async move { inner.clear_orders(id).await })
            .await
    }

    /// Puts a fault into a machine, named by the cloud's id or its name.
    ///
    /// # Errors
    ///
    /// See [`FaultInjection`](crate::FaultInjection).
    pub async fn inject(&self, machine: &str, fault: &Fault) -> Result<(), ProviderError> {
        self.inner
            .debug(machine, debug::Request::Inject(fault.clone()))
            .await
    }

    /// Takes faults of a machine away: those of one kind, or all.
    ///
    /// # Errors
    ///
    /// See [`FaultInjection`](crate::FaultInjection).
    pub async fn clear(&self, machine: &str, kind: Option<FaultKind>) -> Result<(), ProviderError> {
        self.inner.debug(machine, debug::Request::Clear(kind)).await
    }

    /// Ends every agent in order and waits for them. The machines stay on record and come back
    /// when the cloud is opened again.
    pub async fn shutdown(&self) {
        self.tasks.shutdown(&*self.inner.clock, STOP_LIMIT).await;
    }

    /// One call: it passes the ordered faults, takes effect, and is answered or not. It runs to
    /// its end even when the caller goes away.
    async fn call<R, F, W>(
        &self,
        operation: Operation,
        first_page: bool,
        work: F,
    ) -> Result<R, Refusal>
    where
        R: Send + 'static,
        W: Future<Output = Result<R, ProviderError>> + Send + 'static,
        F: FnOnce(Arc<Inner>, Gate) -> W + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        self.to_the_end(async move {
            let mut gate = inner.pass(operation, first_page).await?;
            let (lost, after) = (gate.lost, gate.after);
            if !gate.before.is_zero() {
                inner.clock.sleep(gate.before).await;
            }
            if let Some(error) = gate.error.take() {
                return Err(Refusal::Error(error));
            }
            let answer = work(Arc::clone(&inner), gate).await?;
            if !after.is_zero() {
                inner.clock.sleep(after).await;
            }
            if lost { Err(Refusal::Lost) } else { Ok(answer) }
        })
        .await
    }

    async fn to_the_end<R, E, W>(&self, work: W) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<ProviderError> + Send + 'static,
        W: Future<Output = Result<R, E>> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.inner.calls).try_acquire_owned() else {
            let words = format!("{MAX_CALLS} calls are under way, which is the limit");
            return Err(ProviderError::new(ProviderErrorKind::RateLimit, words).into());
        };
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn("fake-cloud call", async move {
            // The caller may have gone; what it asked for is done all the same.
            let _ = answer.send(work.await);
            drop(permit);
        });
        answered.await.unwrap_or_else(|_| {
            let stopping = "the fake cloud is stopping; ask again when it is back";
            Err(ProviderError::new(ProviderErrorKind::OutcomeUnknown, stopping).into())
        })
    }
}

impl Inner {
    async fn bring_back(self: &Arc<Self>) -> Result<(), CloudError> {
        let goals = Arc::clone(&self.goals);
        let follow = self
            .ledger
            .run(move |keeper| Ok(goals.follow(keeper.book())));
        let begin = follow.await.map_err(|error| CloudError::Io {
            doing: "read the records of",
            path: self.machines_dir.clone(),
            source: std::io::Error::other(error),
        })?;
        let mut strays: BTreeMap<PathBuf, Vec<Identity>> = BTreeMap::new();
        if !begin.is_empty() {
            for (path, identity) in process::with_argument(STATE_FLAG) {
                strays.entry(path).or_default().push(identity);
            }
        }
        for (record, goal) in begin {
            let home = Home::new(&self.machines_dir, &record.id);
            let strays = strays.remove(&home.state()).unwrap_or_default();
            self.start(record, goal, strays);
        }
        Ok(())
    }

    /// Changes the book, and has the machines follow: those that are new begin to live. They
    /// follow the book even where it is not known whether its change is durable.
    async fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Book) -> Result<R, ProviderError> + Send + 'static,
    ) -> Result<R, ProviderError> {
        let goals = Arc::clone(&self.goals);
        let work = self.ledger.run(move |keeper| {
            let changed = keeper.change(change);
            Ok((changed, goals.follow(keeper.book())))
        });
        let (changed, begin) = work.await?;
        for (record, goal) in begin {
            self.start(record, goal, Vec::new());
        }
        changed
    }

    /// Starts the life of a machine.
    fn start(&self, record: Record, goal: watch::Receiver<Goal>, strays: Vec<Identity>) {
        let name = format!("fake machine {}", record.id);
        let machine = Machine {
            home: Home::new(&self.machines_dir, &record.id),
            id: record.id,
            request: record.request,
            boots: record.boots,
            command: self.agent.clone(),
            access: self.access.clone(),
            strays,
            goal,
            ledger: Arc::clone(&self.ledger),
            clock: Arc::clone(&self.clock),
            stop: self.spawner.token().child_token(),
        };
        self.spawner.spawn(name, machine.live());
    }

    async fn pass(&self, operation: Operation, first_page: bool) -> Result<Gate, ProviderError> {
        let pass = self.ledger.run(move |keeper| {
            if keeper.book().orders.is_empty() {
                return Ok(Gate::default());
            }
            keeper.change(|book| Ok(pass(&mut book.orders, operation, first_page)))
        });
        pass.await
    }

    async fn launch(
        &self,
        request: LaunchRequest,
        boots: bool,
    ) -> Result<InstanceView, ProviderError> {
        let id = ProviderInstanceId::new(self.fresh_id());
        let (quota, now) = (self.quota, self.clock.wall());
        self.change(move |book| book.launch(request, id, boots, quota, now))
            .await
    }

    async fn terminate(&self, id: String) -> Result<TerminateAnswer, ProviderError> {
        let now = self.clock.wall();
        let view = self
            .change(move |book| Ok(book.terminate(&id, now)))
            .await?;
        Ok(match view.map(|view| view.status) {
            None | Some(CloudStatus::Terminated) => TerminateAnswer::Gone,
            Some(_) => TerminateAnswer::Accepted,
        })
    }

    async fn order(&self, fault: CloudFault) -> Result<Order, ProviderError> {
        let now = self.clock.wall();
        self.change(move |book| book.order(fault, now)).await
    }

    async fn clear_orders(&self, id: Option<u64>) -> Result<(), ProviderError> {
        let clear = self.change(move |book| match id {
            Some(id) if !book.clear(Some(id)) => {
                let message = format!("no fault {id} is on order; list the faults for their ids");
                Err(ProviderError::new(ProviderErrorKind::NotFound, message))
            }
            Some(_) => Ok(()),
            None => {
                book.clear(None);
                Ok(())
            }
        });
        clear.await
    }

    async fn debug(&self, machine: &str, request: debug::Request) -> Result<(), ProviderError> {
        let name = machine.to_owned();
        let find = self.ledger.run(move |keeper| {
            let record = keeper.book().find(&name);
            Ok(record
                .filter(|record| record.should_run())
                .map(|record| record.id.clone()))
        });
        let Some(id) = find.await? else {
            return Err(ProviderError::new(
                ProviderErrorKind::NotFound,
                format!("no machine {machine:?} runs in the fake cloud"),
            ));
        };
        let address = Home::new(&self.machines_dir, &id).debug_address();
        debug::ask(&self.http, &*self.clock, &address, &request).await
    }

    /// Takes spot machines back whose notice passed.
    async fn interrupt(&self) {
        let now = self.clock.wall();
        let due = self.ledger.run(|keeper| {
            let orders = keeper.book().orders.iter();
            Ok(orders.map(|order| &order.fault).any(CloudFault::interrupts))
        });
        if !due.await.unwrap_or(false) {
            return;
        }
        if let Err(error) = self.change(move |book| Ok(book.interrupt(now))).await {
            tracing::warn!(%error, "cannot take spot machines back");
        }
    }

    async fn purge(&self) {
        let now = self.clock.wall();
        let purge = self.change(move |book| Ok(book.purge(now)));
        match purge.await {
            Ok(gone) => {
                for id in gone {
                    Home::new(&self.machines_dir, &id).remove();
                }
            }
            Err(error) => tracing::warn!(%error, "cannot forget machines that ended long ago"),
        }
    }

    fn fresh_id(&self) -> String {
        struct Bits<'a>(&'a mut dyn Rng);
        impl IdSource for Bits<'_> {
            fn next_bits(&mut self) -> u64 {
                self.0.next_u64()
            }
        }
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        ids::fresh("fake", &mut Bits(&mut **rng))
    }
}

/// A client for loopback: no proxy, no redirects, and no limit of time, which is the caller's.
pub(crate) fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // Shorter than the servers at the other end keep an idle connection: a request on one
        // that is just being closed would have no answer.
        .pool_idle_timeout(Duration::from_secs(10))
        .build()
}
