//! The fake cloud itself: calls pass the ordered faults, change the records, move the machines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use navarch_model::{
    IdSource, ProviderError, ProviderErrorKind, ProviderInstanceId, TerminateAnswer, ids,
};
use navarch_time::{Clock as _, Rng, SharedClock, Spawner, Tasks};
use tokio::sync::{oneshot, watch};

use super::book::Record;
use super::debug;
use super::disk::{CloudError, Ledger, private_directory};
use super::machine::{AgentAccess, AgentCommand, Goal, Home, Machine, STATE_FLAG};
use super::orders::{CloudFault, Gate, Operation, Order, pass};
use super::process::{self, Identity};
use super::wire::{InstanceView, LaunchRequest, Page, PageQuery};
use crate::{Fault, FaultKind};

/// How many machines may be live at once unless told otherwise: each is a process.
const QUOTA: usize = 1000;

/// How often machines that ended long ago are forgotten.
const PURGE_EVERY: Duration = Duration::from_secs(60);

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
    goals: Mutex<BTreeMap<ProviderInstanceId, watch::Sender<Goal>>>,
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
        let ledger = Arc::new(Ledger::open(&data_dir)?);
        let tasks = Tasks::new();
        let inner = Arc::new(Inner {
            ledger,
            clock,
            rng: Mutex::new(rng),
            machines_dir: data_dir.join("machines"),
            agent,
            access,
            quota,
            goals: Mutex::default(),
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
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn("fake-cloud call", async move {
            // The caller may have gone; what it asked for is done all the same.
            let _ = answer.send(work.await);
        });
        answered.await.unwrap_or_else(|_| {
            let stopping = "the fake cloud is stopping; ask again when it is back";
            Err(ProviderError::new(ProviderErrorKind::OutcomeUnknown, stopping).into())
        })
    }
}

impl Inner {
    async fn bring_back(self: &Arc<Self>) -> Result<(), CloudError> {
        let read = self.ledger.run(|keeper| {
            let book = keeper.book();
            let records = book.records().filter(|record| record.may_run());
            Ok(records
                .map(|record| (record.clone(), book.hangs(&record.id)))
                .collect())
        });
        let records: Vec<(Record, bool)> = read.await.map_err(|error| CloudError::Io {
            doing: "read the records of",
            path: self.machines_dir.clone(),
            source: std::io::Error::other(error),
        })?;
        let mut strays: BTreeMap<PathBuf, Vec<Identity>> = BTreeMap::new();
        if !records.is_empty() {
            for (path, identity) in process::with_argument(STATE_FLAG) {
                strays.entry(path).or_default().push(identity);
            }
        }
        for (record, hangs) in records {
            let home = Home::new(&self.machines_dir, &record.id);
            let goal = match hangs {
                _ if !record.should_run() => Goal::End,
                true => Goal::Hang,
                false => Goal::Run,
            };
            let strays = strays.remove(&home.state()).unwrap_or_default();
            self.start(record, goal, strays);
        }
        Ok(())
    }

    /// Starts the life of a machine.
    fn start(&self, record: Record, goal: Goal, strays: Vec<Identity>) {
        let (sender, receiver) = watch::channel(goal);
        let machine = Machine {
            home: Home::new(&self.machines_dir, &record.id),
            id: record.id.clone(),
            request: record.request,
            boots: record.boots,
            command: self.agent.clone(),
            access: self.access.clone(),
            strays,
            goal: receiver,
            ledger: Arc::clone(&self.ledger),
            clock: Arc::clone(&self.clock),
            stop: self.spawner.token().child_token(),
        };
        let name = format!("fake machine {}", record.id);
        self.goals().insert(record.id, sender);
        self.spawner.spawn(name, machine.live());
    }

    fn goals(&self) -> MutexGuard<'_, BTreeMap<ProviderInstanceId, watch::Sender<Goal>>> {
        self.goals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a machine what to do. The end is final.
    fn steer(&self, id: &ProviderInstanceId, goal: Goal) {
        if let Some(sender) = self.goals().get(id) {
            sender.send_if_modified(|present| {
                let changes = *present != Goal::End && *present != goal;
                if changes {
                    *present = goal;
                }
                changes
            });
        }
    }

    async fn pass(&self, operation: Operation, first_page: bool) -> Result<Gate, ProviderError> {
        let pass = self.ledger.run(move |keeper| {
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
        let launch = self
            .ledger
            .run(move |keeper| keeper.change(|book| book.launch(request, id, boots, quota, now)));
        let launched = launch.await?;
        if let Some(record) = launched.made {
            self.start(record, Goal::Run, Vec::new());
        }
        Ok(launched.view)
    }

    async fn terminate(&self, id: String) -> Result<TerminateAnswer, ProviderError> {
        let now = self.clock.wall();
        let wanted = ProviderInstanceId::new(id.as_str());
        let terminate = self
            .ledger
            .run(move |keeper| keeper.change(|book| Ok(book.terminate(&id, now))));
        let Some(view) = terminate.await? else {
            return Ok(TerminateAnswer::Gone);
        };
        self.steer(&wanted, Goal::End);
        Ok(match view.status {
            navarch_model::CloudStatus::Terminated => TerminateAnswer::Gone,
            _ => TerminateAnswer::Accepted,
        })
    }

    async fn order(&self, fault: CloudFault) -> Result<Order, ProviderError> {
        let now = self.clock.wall();
        let order = self
            .ledger
            .run(move |keeper| keeper.change(|book| book.order(fault, now)))
            .await?;
        match &order.fault {
            CloudFault::Vanish { instance } => {
                self.steer(&ProviderInstanceId::new(instance.as_str()), Goal::End);
            }
            CloudFault::Hang { instance } => {
                self.steer(&ProviderInstanceId::new(instance.as_str()), Goal::Hang);
            }
            _ => {}
        }
        Ok(order)
    }

    async fn clear_orders(&self, id: Option<u64>) -> Result<(), ProviderError> {
        let clear = self.ledger.run(move |keeper| {
            keeper.change(|book| {
                let taken = book.clear(id);
                if let Some(id) = id
                    && taken.is_empty()
                {
                    let message =
                        format!("no fault {id} is on order; list the faults for their ids");
                    return Err(ProviderError::new(ProviderErrorKind::NotFound, message));
                }
                let freed = taken.into_iter().filter_map(|order| match order.fault {
                    CloudFault::Hang { instance } => Some(ProviderInstanceId::new(instance)),
                    _ => None,
                });
                Ok(freed.filter(|id| !book.hangs(id)).collect::<Vec<_>>())
            })
        });
        for id in clear.await? {
            self.steer(&id, Goal::Run);
        }
        Ok(())
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

    async fn purge(&self) {
        let now = self.clock.wall();
        let purge = self
            .ledger
            .run(move |keeper| keeper.change(|book| Ok(book.purge(now))));
        match purge.await {
            Ok(gone) => {
                for id in gone {
                    self.goals().remove(&id);
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
        .build()
}
