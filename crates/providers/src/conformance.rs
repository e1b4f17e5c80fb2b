//! What every provider must do: one suite, run against each implementation.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use navarch_model::{
    CloudStatus, FleetId, Idempotency, InstanceId, LaunchSpec, Machine, Offering, PoolName,
    ProviderErrorKind, ProviderInstanceId, TerminateAnswer, ids,
};
use navarch_time::{OsRng, Rng as _, SharedClock};

use crate::{Listing, Provider};

/// How often a cloud is asked again until something is so.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How long something may take to become so.
const ASK_FOR: Duration = Duration::from_secs(60);

/// What the suite needs to know of a cloud under test.
pub trait World: Sync {
    /// The provider.
    fn provider(&self) -> &dyn Provider;

    /// The clock of the cloud.
    fn clock(&self) -> SharedClock;

    /// Something that can be bought.
    fn offering(&self) -> Offering;

    /// How many machines make a listing of several pages.
    fn several_pages(&self) -> usize;

    /// Something that can be bought and that the cloud may take back; `None` where there is no such
    /// thing.
    fn spot_offering(&self) -> Option<Offering>;

    /// Has the cloud say that it takes a machine back in a few minutes. False where it cannot be made
    /// to.
    fn interrupt<'a>(
        &'a self,
        machine: &'a ProviderInstanceId,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

    /// Has the cloud lose its answer to the next launch. False where it cannot be made to.
    fn lose_next_launch_answer(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// Runs the whole suite. It leaves no live machine.
///
/// # Errors
///
/// What the provider did wrong.
pub async fn check(world: &dyn World) -> Result<(), String> {
    let suite = Suite {
        world,
        provider: world.provider(),
        fleet: FleetId::new(fresh("fleet")),
    };
    suite.knows_nothing_of_strangers().await?;
    suite.lists_what_it_sells_once_if_at_all().await?;
    suite.launches_once_per_intent().await?;
    suite.survives_lost_answers().await?;
    suite.survives_dropped_calls().await?;
    suite.lists_all_pages_of_one_fleet().await?;
    suite.shows_when_it_takes_a_machine_back().await?;
    suite.ends_machines_for_good().await
}

struct Suite<'a> {
    world: &'a dyn World,
    provider: &'a dyn Provider,
    fleet: FleetId,
}

fn fresh(prefix: &str) -> String {
    struct Bits;
    impl navarch_model::IdSource for Bits {
        fn next_bits(&mut self) -> u64 {
            OsRng.next_u64()
        }
    }
    ids::fresh(prefix, &mut Bits)
}

/// An error that says what was done and what came of it.
fn claim(holds: bool, what: &str, seen: &dyn std::fmt::Debug) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("{what}; seen: {seen:?}"))
    }
}

fn failed(doing: &str) -> impl Fn(navarch_model::ProviderError) -> String {
    move |error| format!("{doing}: {error}")
}

impl Suite<'_> {
    async fn lists_what_it_sells_once_if_at_all(&self) -> Result<(), String> {
        let offers = self.provider.offerings().await;
        let Some(offers) = offers.map_err(failed("list what is sold"))? else {
            return Ok(());
        };
        let mut seen = BTreeSet::new();
        for offer in &offers {
            let place = (
                &offer.region,
                &offer.zone,
                &offer.instance_type,
                offer.capacity,
            );
            claim(seen.insert(place), "each offering is listed once", offer)?;
        }
        let wanted = self.world.offering();
        let listed = offers.iter().any(|offer| {
            (&offer.region, &offer.instance_type, offer.capacity)
                == (&wanted.region, &wanted.instance_type, wanted.capacity)
        });
        claim(listed, "what can be bought is listed", &offers)
    }

    fn spec(&self, fleet: &FleetId) -> LaunchSpec {
        LaunchSpec {
            instance: InstanceId::new(fresh("nv")),
            fleet: fleet.clone(),
            pool: PoolName::new("conformance"),
            offering: self.world.offering(),
            labels: BTreeMap::from([("tier".to_owned(), "a b=c,ü".to_owned())]),
        }
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<Machine, String> {
        let launched = self.provider.launch(spec).await;
        let machine = launched.map_err(failed("launch"))?;
        let ours = machine.instance.as_ref() == Some(&spec.instance)
            && machine.fleet.as_ref() == Some(&spec.fleet);
        claim(
            ours,
            "a machine carries our ids from the first answer",
            &machine,
        )?;
        Ok(machine)
    }

    async fn find(&self, spec: &LaunchSpec) -> Result<Option<Machine>, String> {
        let found = self.provider.find(&spec.fleet, &spec.instance).await;
        found.map_err(failed("find"))
    }

    async fn get(&self, id: &ProviderInstanceId) -> Result<Option<Machine>, String> {
        self.provider.get(id).await.map_err(failed("get"))
    }

    async fn list(&self, fleet: &FleetId) -> Result<Listing, String> {
        let listing = self.provider.list(fleet).await.map_err(failed("list"))?;
        claim(
            listing.complete,
            "a listing without faults is complete",
            &listing,
        )?;
        Ok(listing)
    }

    /// The ids of the fleet's machines that did not end.
    async fn live(&self, fleet: &FleetId) -> Result<Vec<ProviderInstanceId>, String> {
        let machines = self.list(fleet).await?.machines;
        let live = machines.into_iter().filter(|machine| !ended(Some(machine)));
        Ok(live.map(|machine| machine.provider_id).collect())
    }

    async fn end(&self, id: &ProviderInstanceId) -> Result<(), String> {
        let answer = self.provider.terminate(id).await;
        answer.map_err(failed("terminate"))?;
        let clock = self.world.clock();
        let gone = eventually(&clock, ASK_FOR, async || {
            self.get(id)
                .await
                .is_ok_and(|machine| ended(machine.as_ref()))
        });
        claim(gone.await, "a terminated machine ends", id)
    }

    async fn knows_nothing_of_strangers(&self) -> Result<(), String> {
        let spec = self.spec(&self.fleet);
        let found = self.find(&spec).await?;
        claim(
            found.is_none(),
            "an instance that was never launched is not found",
            &found,
        )?;
        let id = ProviderInstanceId::new("no-such-machine");
        let got = self.get(&id).await?;
        claim(got.is_none(), "an unknown id is no machine", &got)?;
        let answer = self.provider.terminate(&id).await;
        let gone = answer == Ok(TerminateAnswer::Gone);
        claim(gone, "terminating an unknown id answers gone", &answer)?;
        let listing = self.list(&self.fleet).await?;
        claim(
            listing.machines.is_empty(),
            "a new fleet has no machines",
            &listing,
        )
    }

    async fn launches_once_per_intent(&self) -> Result<(), String> {
        let spec = self.spec(&self.fleet);
        let first = self.launch(&spec).await?;
        claim(
            first.status == CloudStatus::Running,
            "a new machine runs",
            &first,
        )?;
        let (found, got) = (self.find(&spec).await?, self.get(&first.provider_id).await?);
        claim(
            found.as_ref() == Some(&first),
            "find agrees with launch",
            &(&found, &first),
        )?;
        claim(
            got.as_ref() == Some(&first),
            "get agrees with launch",
            &(&got, &first),
        )?;
        let listed = self.list(&self.fleet).await?.machines;
        claim(
            listed.contains(&first),
            "list agrees with launch",
            &(&listed, &first),
        )?;
        if self.provider.idempotency() == Idempotency::TokenOrName {
            let again = self.launch(&spec).await?;
            claim(
                again == first,
                "the second launch answers the first machine",
                &(&again, &first),
            )?;
            let spec = self.spec(&self.fleet);
            let (a, b, c) =
                tokio::join!(self.launch(&spec), self.launch(&spec), self.launch(&spec));
            let ids = BTreeSet::from([a?.provider_id, b?.provider_id, c?.provider_id]);
            claim(
                ids.len() == 1,
                "three launches at once make one machine",
                &ids,
            )?;
        }
        self.end_all().await
    }

    async fn survives_lost_answers(&self) -> Result<(), String> {
        if !self.world.lose_next_launch_answer().await {
            return Ok(());
        }
        let spec = self.spec(&self.fleet);
        let answer = self.provider.launch(&spec).await;
        let unknown = answer
            .as_ref()
            .is_err_and(|error| error.kind == ProviderErrorKind::OutcomeUnknown);
        claim(unknown, "a lost answer is an unknown outcome", &answer)?;
        let found = self.find(&spec).await?;
        claim(
            found.is_some(),
            "find finds the machine of a lost answer",
            &found,
        )?;
        if self.provider.idempotency() == Idempotency::TokenOrName {
            let again = self.launch(&spec).await?;
            claim(
                Some(&again) == found.as_ref(),
                "launching again answers it",
                &again,
            )?;
        }
        let live = self.live(&self.fleet).await?;
        claim(live.len() == 1, "one intent is one machine", &live)?;
        self.end_all().await
    }

    async fn survives_dropped_calls(&self) -> Result<(), String> {
        let spec = self.spec(&self.fleet);
        for polls in 0..4 {
            let mut launch = pin!(self.provider.launch(&spec));
            for _ in 0..polls {
                let mut context = Context::from_waker(Waker::noop());
                if let Poll::Ready(answer) = launch.as_mut().poll(&mut context) {
                    answer.map_err(failed("launch"))?;
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        if self.provider.idempotency() == Idempotency::TokenOrName {
            let machine = self.launch(&spec).await?;
            let live = self.live(&self.fleet).await?;
            claim(
                live == [machine.provider_id],
                "dropped launches and a whole one make one machine",
                &live,
            )?;
        }
        self.end_all().await
    }

    async fn lists_all_pages_of_one_fleet(&self) -> Result<(), String> {
        let stranger = FleetId::new(fresh("fleet"));
        let foreign = self.spec(&stranger);
        let not_ours = self.launch(&foreign).await?;
        let mut launched = BTreeSet::new();
        for _ in 0..self.world.several_pages() {
            launched.insert(self.launch(&self.spec(&self.fleet)).await?.provider_id);
        }
        let live = self.live(&self.fleet).await?;
        let listed: BTreeSet<_> = live.iter().cloned().collect();
        claim(
            listed == launched,
            "a listing shows each machine of the fleet",
            &(&listed, &launched),
        )?;
        claim(
            listed.len() == live.len(),
            "a listing shows no machine twice",
            &live,
        )?;
        let theirs = self.provider.find(&self.fleet, &foreign.instance).await;
        let hidden = theirs == Ok(None);
        claim(
            hidden,
            "find does not find the machine of another fleet",
            &theirs,
        )?;
        let live = self.live(&stranger).await?;
        claim(
            live == [not_ours.provider_id.clone()],
            "the other fleet lists its own",
            &live,
        )?;
        self.end(&not_ours.provider_id).await?;
        self.end_all().await
    }

    async fn shows_when_it_takes_a_machine_back(&self) -> Result<(), String> {
        let Some(offering) = self.world.spot_offering() else {
            return Ok(());
        };
        let (kept, spec) = (self.spec(&self.fleet), self.spec(&self.fleet));
        let spec = LaunchSpec { offering, ..spec };
        let (kept, machine) = (self.launch(&kept).await?, self.launch(&spec).await?);
        let stays = kept.interruption_at.or(machine.interruption_at).is_none();
        claim(stays, "a new machine stays", &(&kept, &machine))?;
        if self.world.interrupt(&machine.provider_id).await {
            let seen = self.get(&machine.provider_id).await?;
            let told = seen.as_ref().and_then(|seen| seen.interruption_at);
            claim(told.is_some(), "the machine is shown to go", &seen)?;
            let found = self.find(&spec).await?;
            claim(found == seen, "find agrees with get", &(&found, &seen))?;
            let listed = self.list(&self.fleet).await?.machines;
            let shown = |id: &ProviderInstanceId| {
                let mut listed = listed.iter();
                let one = listed.find(|one| one.provider_id == *id);
                one.and_then(|one| one.interruption_at)
            };
            let agrees = shown(&machine.provider_id) == told && shown(&kept.provider_id).is_none();
            claim(agrees, "a listing shows which machine goes", &listed)?;
        }
        self.end_all().await
    }

    async fn ends_machines_for_good(&self) -> Result<(), String> {
        let spec = self.spec(&self.fleet);
        let machine = self.launch(&spec).await?;
        for turn in ["first", "second"] {
            let answer = self.provider.terminate(&machine.provider_id).await;
            claim(
                answer.is_ok(),
                &format!("the {turn} termination is accepted"),
                &answer,
            )?;
        }
        self.end(&machine.provider_id).await?;
        let answer = self.provider.terminate(&machine.provider_id).await;
        let gone = answer == Ok(TerminateAnswer::Gone);
        claim(gone, "terminating what ended answers gone", &answer)?;
        let found = self.find(&spec).await?;
        claim(
            ended(found.as_ref()),
            "find does not show it as live",
            &found,
        )?;
        let live = self.live(&self.fleet).await?;
        claim(live.is_empty(), "a listing does not show it as live", &live)?;
        if self.provider.idempotency() == Idempotency::TokenOrName {
            let again = self.provider.launch(&spec).await;
            let live = self.live(&self.fleet).await?;
            claim(
                live.is_empty(),
                "a used token makes no second machine",
                &(again, live),
            )?;
        }
        Ok(())
    }

    async fn end_all(&self) -> Result<(), String> {
        for id in self.live(&self.fleet).await? {
            self.end(&id).await?;
        }
        Ok(())
    }
}

fn ended(machine: Option<&Machine>) -> bool {
    machine.is_none_or(|machine| machine.status == CloudStatus::Terminated)
}

/// Asks again and again until something is so, for at most `limit`. Says whether it became so.
/// For tests of real clouds and real processes, which no virtual clock drives.
pub async fn eventually(
    clock: &SharedClock,
    limit: Duration,
    mut so: impl AsyncFnMut() -> bool,
) -> bool {
    let deadline = clock.monotonic().saturating_add(limit);
    loop {
        if so().await {
            return true;
        }
        if clock.monotonic() >= deadline {
            return false;
        }
        clock.sleep(ASK_EVERY).await;
    }
}
