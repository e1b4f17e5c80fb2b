//! The simulated cloud: machines that cost money, and answers that may lie or never come.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_config::scenario::{self, Place};
use navarch_core::{Effect, Input, NotifyOutcome};
use navarch_model::{
    CapacityKind, CloudStatus, FleetId, InstanceId, LaunchSpec, Machine, Offer, Offering, PoolName,
    Price, ProviderError, ProviderErrorKind, ProviderInstanceId, ProviderName, TerminateAnswer,
    Time,
};

use crate::crash::WALL_ORIGIN_MICROS;

/// How listings are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listing {
    Partial,
    Empty,
    Stale,
}

/// What the cloud does wrong until a moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Modes {
    /// The last that was ordered and that is not over counts; the same for listings.
    pub(crate) launch_errors: Vec<(Time, ProviderErrorKind)>,
    pub(crate) lost_answers: Time,
    pub(crate) duds: Time,
    pub(crate) listings: Vec<(Time, Listing)>,
    pub(crate) outage: Time,
    pub(crate) slow: Time,
    /// Until when an offering is sold out, by its place among the offerings.
    pub(crate) sold_out: BTreeMap<usize, Time>,
    /// What an offering costs instead of the usual, in millionths of a dollar per hour.
    pub(crate) prices: BTreeMap<usize, u64>,
}

/// What an offering costs usually, in millionths of a dollar per hour.
const USUAL_MICROS: u64 = 2_000_000;

/// One machine as it is.
#[derive(Debug, Clone)]
pub(crate) struct Rented {
    pub(crate) id: ProviderInstanceId,
    /// Whose it is, if it has a tag of ours or of another fleet.
    pub(crate) instance: Option<InstanceId>,
    pub(crate) fleet: Option<FleetId>,
    pub(crate) pool: Option<PoolName>,
    pub(crate) status: CloudStatus,
    /// When it was gone.
    pub(crate) gone: Option<Time>,
    /// Whether it ever boots.
    pub(crate) boots: bool,
    /// Whether the cloud may take it back.
    pub(crate) spot: bool,
    /// When the cloud takes it back, once it says so, in Unix time.
    pub(crate) interruption_at: Option<Time>,
    /// Whether it ever said so.
    pub(crate) noticed: bool,
    /// Where it stands.
    pub(crate) place: Place,
    /// The machine type, as the provider calls it.
    pub(crate) instance_type: String,
    /// What it costs, in millionths of a dollar per hour.
    pub(crate) micros: u64,
}

impl Rented {
    /// Whether it costs money.
    pub(crate) const fn is_alive(&self) -> bool {
        !matches!(self.status, CloudStatus::Terminated | CloudStatus::NotFound)
    }

    fn shown(&self) -> Machine {
        Machine {
            provider_id: self.id.clone(),
            instance: self.instance.clone(),
            fleet: self.fleet.clone(),
            status: self.status,
            interruption_at: self.interruption_at,
        }
    }

    /// Whether the cloud may say now that it takes it back.
    pub(crate) fn is_interruptible(&self) -> bool {
        self.spot && self.status == CloudStatus::Running && self.interruption_at.is_none()
    }

    /// Says that it is taken back `notice` from now. Some clouds show it running until then, and
    /// some shut it down at once.
    pub(crate) fn interrupt(&mut self, now: Time, notice: Duration, stops: bool) {
        self.interruption_at = Some(Time(WALL_ORIGIN_MICROS + now.0) + notice);
        self.noticed = true;
        if stops {
            self.status = CloudStatus::Terminating;
        }
    }
}

/// What a call did to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// Nothing.
    Nothing,
    /// A machine was made.
    Made(ProviderInstanceId),
    /// A machine begins to go.
    Ending(ProviderInstanceId),
}

/// Every provider's cloud.
#[derive(Debug, Default)]
pub(crate) struct Cloud {
    pub(crate) machines: BTreeMap<ProviderInstanceId, Rented>,
    /// What every provider does wrong.
    pub(crate) modes: Modes,
    /// What is wrong at a place alone: `PROVIDER`, `PROVIDER/REGION` or `PROVIDER/REGION/ZONE`.
    pub(crate) local: BTreeMap<String, Modes>,
    pub(crate) honours_tokens: bool,
    /// What it sells, each once, in the order of the configuration.
    pub(crate) offerings: Vec<Offering>,
    /// What a scenario says of its providers.
    pub(crate) told: scenario::Cloud,
    /// Whether it ever claimed completeness for a listing that was not.
    pub(crate) lied: bool,
    /// What was there earlier, the oldest first.
    past: Vec<(Time, Vec<Rented>)>,
    made: u64,
    /// How many machines each zone ever had, by its name.
    racked: BTreeMap<String, u32>,
    /// The machines that have the tag of an instance, those that ended included.
    tagged: BTreeMap<InstanceId, Vec<ProviderInstanceId>>,
    /// How many machines that cost money stand in a place, by the names of [`names`].
    standing: BTreeMap<String, u32>,
}

/// The provider that a call goes to.
pub(crate) const fn provider_of(effect: &Effect) -> Option<&ProviderName> {
    match effect {
        Effect::Launch { spec, .. } => Some(&spec.offering.provider),
        Effect::Lookup { provider, .. }
        | Effect::Terminate { provider, .. }
        | Effect::List { provider, .. }
        | Effect::Prices { provider }
        | Effect::TerminateUnclaimed { provider, .. } => Some(provider),
        Effect::CancelLaunch { .. } | Effect::Notify { .. } | Effect::AskDrained { .. } => None,
    }
}

/// The names of the places that an offering is in, the largest first.
fn names(offering: &Offering) -> [String; 3] {
    names_of(offering.provider.as_str(), &offering.region, &offering.zone)
}

fn names_of(provider: &str, region: &str, zone: &str) -> [String; 3] {
    let region = format!("{provider}/{region}");
    let zone = format!("{region}/{zone}");
    [provider.to_owned(), region, zone]
}

/// Machines in a rack: of one zone, in the order in which they are bought.
const RACK: u32 = 8;
/// How long a terminated machine is still shown.
const SHOWN_AFTER_END_MICROS: i64 = 600_000_000;
/// How long a token of a machine that ended is remembered.
const FORGOTTEN_AFTER_END_MICROS: i64 = 24 * 3_600_000_000;
/// Earlier listings that are remembered.
const MAX_PAST: usize = 64;

fn error(kind: ProviderErrorKind, what: &str) -> ProviderError {
    ProviderError::new(kind, what)
}

impl Cloud {
    pub(crate) fn new(honours_tokens: bool, offerings: Vec<Offering>) -> Self {
        Self {
            honours_tokens,
            offerings,
            ..Self::default()
        }
    }

    /// A machine is there from now on.
    fn add(&mut self, rented: Rented) {
        let place = &rented.place;
        for name in names_of(&place.provider, &place.region, &place.zone) {
            *self.standing.entry(name).or_default() += 1;
        }
        if let Some(instance) = &rented.instance {
            let tagged = self.tagged.entry(instance.clone()).or_default();
            tagged.push(rented.id.clone());
        }
        self.machines.insert(rented.id.clone(), rented);
    }

    /// A machine costs nothing from now on. Answers whether it did until now.
    pub(crate) fn end(&mut self, id: &ProviderInstanceId, status: CloudStatus, now: Time) -> bool {
        let ends = self.machines.get_mut(id).filter(|one| one.is_alive());
        let Some(rented) = ends else {
            return false;
        };
        (rented.status, rented.gone) = (status, Some(now));
        let place = &rented.place;
        for name in names_of(&place.provider, &place.region, &place.zone) {
            if let Some(standing) = self.standing.get_mut(&name) {
                *standing = standing.saturating_sub(1);
            }
        }
        true
    }

    /// The machines that have the tag of an instance, in the order in which they were made.
    fn tagged(&self, instance: &InstanceId) -> impl Iterator<Item = &Rented> {
        let tagged = self.tagged.get(instance).into_iter().flatten();
        tagged.filter_map(|id| self.machines.get(id))
    }

    /// The machines that have the tag of an instance and cost money.
    pub(crate) fn alive_of(&self, instance: &InstanceId) -> impl Iterator<Item = &Rented> {
        self.tagged(instance).filter(|one| one.is_alive())
    }

    /// The machines that cost money.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &Rented> {
        self.machines.values().filter(|machine| machine.is_alive())
    }

    /// How many earlier listings are remembered.
    pub(crate) const fn past(&self) -> usize {
        self.past.len()
    }

    /// The machines that listings show, of every provider.
    fn visible(&self, now: Time) -> impl Iterator<Item = &Rented> {
        self.machines.values().filter(move |machine| {
            machine.status != CloudStatus::NotFound
                && machine
                    .gone
                    .is_none_or(|gone| now.0 - gone.0 < SHOWN_AFTER_END_MICROS)
        })
    }

    /// The machines that a provider's listings show.
    fn shown(&self, now: Time, provider: &ProviderName) -> Vec<Machine> {
        let visible = self.visible(now);
        let own = visible.filter(|one| one.place.provider == provider.as_str());
        own.map(Rented::shown).collect()
    }

    /// What is wrong in places, by their names, and everywhere.
    fn wrong<'a>(&'a self, places: &'a [String]) -> impl Iterator<Item = &'a Modes> {
        let local = places.iter().filter_map(|place| self.local.get(place));
        std::iter::once(&self.modes).chain(local)
    }

    /// Whether calls to a provider take longer than their deadline.
    pub(crate) fn is_slow(&self, now: Time, provider: Option<&ProviderName>) -> bool {
        let own = provider.and_then(|provider| self.local.get(provider.as_str()));
        let mut modes = std::iter::once(&self.modes).chain(own);
        modes.any(|modes| now < modes.slow)
    }

    /// Nothing is wrong anywhere from now on.
    pub(crate) fn behave(&mut self) {
        self.modes = Modes::default();
        self.local.clear();
    }

    /// Remembers what it would list now, if it is to give stale answers later, and forgets what
    /// ended long ago.
    pub(crate) fn remember(&mut self, now: Time, lies: bool) {
        if lies {
            let shown = self.visible(now).cloned().collect();
            if self.past.len() == MAX_PAST {
                self.past.remove(0);
            }
            self.past.push((now, shown));
        }
        // What ended long ago is asked for no more.
        let tagged = &mut self.tagged;
        self.machines.retain(|id, machine| {
            let stays = machine
                .gone
                .is_none_or(|gone| now.0 - gone.0 < FORGOTTEN_AFTER_END_MICROS);
            if let (false, Some(instance)) = (stays, &machine.instance)
                && let Some(of) = tagged.get_mut(instance)
            {
                of.retain(|one| one != id);
                if of.is_empty() {
                    tagged.remove(instance);
                }
            }
            stays
        });
    }

    /// Carries a call out. Answers what it did, and what the cloud says.
    pub(crate) fn call(&mut self, now: Time, effect: &Effect) -> (Done, Input) {
        match effect {
            Effect::Launch { key, spec, .. } => {
                let (done, result) = self.launch(now, spec);
                let key = key.clone();
                (done, Input::LaunchResult { key, result })
            }
            Effect::Lookup {
                key,
                provider,
                fleet,
                provider_id,
            } => {
                let result = self.status_api(now, provider).map(|()| {
                    let visible = self.shown(now, provider);
                    match provider_id {
                        Some(id) => visible.into_iter().find(|shown| shown.provider_id == *id),
                        None => visible
                            .into_iter()
                            .filter(|shown| {
                                shown.instance.as_ref() == Some(&key.instance)
                                    && shown.fleet.as_ref() == Some(fleet)
                            })
                            // One that runs before one that ended.
                            .min_by_key(|shown| shown.status),
                    }
                });
                let key = key.clone();
                (Done::Nothing, Input::LookupResult { key, result })
            }
            Effect::Terminate {
                key,
                provider,
                provider_id,
            } => {
                let (done, result) = self.terminate(now, provider, provider_id);
                let key = key.clone();
                (done, Input::TerminateResult { key, result })
            }
            Effect::TerminateUnclaimed {
                provider,
                provider_id,
            } => {
                let (done, result) = self.terminate(now, provider, provider_id);
                let input = Input::UnclaimedResult {
                    provider: provider.clone(),
                    machine: provider_id.clone(),
                    result,
                };
                (done, input)
            }
            Effect::List {
                provider, began, ..
            } => {
                let result = self.status_api(now, provider);
                let result = result.map(|()| self.list(now, provider));
                let input = Input::ListResult {
                    provider: provider.clone(),
                    began: *began,
                    result,
                };
                (Done::Nothing, input)
            }
            Effect::Prices { provider } => {
                let result = self.status_api(now, provider);
                let input = Input::PricesResult {
                    provider: provider.clone(),
                    result: result.map(|()| Some(self.offers(now, provider))),
                };
                (Done::Nothing, input)
            }
            Effect::CancelLaunch { key } => {
                let error = ProviderError::new(ProviderErrorKind::Transient, "no call of a cloud");
                let (key, result) = (key.clone(), Err(error));
                (Done::Nothing, Input::LaunchResult { key, result })
            }
            Effect::Notify { node, notice, .. } => (
                Done::Nothing,
                Input::NotifyResult {
                    node: node.clone(),
                    sequence: notice.sequence,
                    outcome: NotifyOutcome::Refused("no call of a cloud".to_owned()),
                },
            ),
            Effect::AskDrained { node, since, .. } => (
                Done::Nothing,
                Input::DrainResult {
                    node: node.clone(),
                    since: *since,
                    drained: Ok(true),
                },
            ),
        }
    }

    fn is_sold_out(&self, now: Time, offering: &Offering) -> bool {
        let place = self.offerings.iter().position(|one| one == offering);
        place
            .and_then(|place| self.modes.sold_out.get(&place))
            .is_some_and(|until| now < *until)
    }

    /// What a scenario says of the cloud.
    pub(crate) fn limits(&mut self, told: &scenario::Cloud) {
        for (place, one) in self.offerings.iter().enumerate() {
            let names = names(one);
            let price = names.iter().rev().find_map(|name| told.prices.get(name));
            if let Some(dollars) = price {
                let micros = (dollars * 1e6).round() as u64;
                self.modes.prices.insert(place, micros);
            }
        }
        self.told = told.clone();
    }

    /// Whether the cloud has no more of an offering, in its zone, its region or at its provider.
    fn is_full(&self, offering: &Offering) -> bool {
        names(offering).iter().any(|name| {
            let standing = self.standing.get(name).copied().unwrap_or_default();
            let most = self.told.capacity.get(name);
            most.is_some_and(|most| standing >= *most)
        })
    }

    /// What an offering costs now, in millionths of a dollar per hour.
    fn micros(&self, offering: &Offering) -> u64 {
        let place = self.offerings.iter().position(|one| one == offering);
        let changed = place.and_then(|place| self.modes.prices.get(&place).copied());
        changed.unwrap_or(USUAL_MICROS)
    }

    /// The price list of a provider.
    fn offers(&self, now: Time, provider: &ProviderName) -> Vec<Offer> {
        let offer = |one: &Offering| Offer {
            region: one.region.clone(),
            zone: one.zone.clone(),
            instance_type: one.instance_type.clone(),
            capacity: one.capacity,
            price: Some(Price::from_micros(self.micros(one))),
            available: Some(!self.is_sold_out(now, one)),
        };
        let own = self.offerings.iter();
        own.filter(|one| one.provider == *provider)
            .map(offer)
            .collect()
    }

    fn status_api(&self, now: Time, provider: &ProviderName) -> Result<(), ProviderError> {
        let own = [provider.to_string()];
        if self.wrong(&own).any(|modes| now < modes.outage) {
            return Err(error(
                ProviderErrorKind::Transient,
                "the status API is down",
            ));
        }
        Ok(())
    }

    fn launch(&mut self, now: Time, spec: &LaunchSpec) -> (Done, Result<Machine, ProviderError>) {
        let places = names(&spec.offering);
        let refused = self
            .wrong(&places)
            .flat_map(|modes| modes.launch_errors.iter().rev())
            .find(|(until, _)| now < *until);
        if let Some((_, kind)) = refused {
            return (Done::Nothing, Err(error(*kind, "as ordered")));
        }
        if self.is_sold_out(now, &spec.offering) || self.is_full(&spec.offering) {
            let what = "there are no machines of this kind here";
            return (Done::Nothing, Err(error(ProviderErrorKind::Capacity, what)));
        }
        if self.honours_tokens
            && let Some(known) = self
                .tagged(&spec.instance)
                .find(|machine| machine.fleet.as_ref() == Some(&spec.fleet))
        {
            return (Done::Nothing, Ok(known.shown()));
        }
        self.made += 1;
        let [_, _, zone] = &places;
        let racked = self.racked.entry(zone.clone()).or_default();
        let rack = *racked / RACK;
        *racked += 1;
        let offering = &spec.offering;
        let (provider, region, zone) = (&offering.provider, &offering.region, &offering.zone);
        let rented = Rented {
            id: ProviderInstanceId::new(format!("m-{}", self.made)),
            instance: Some(spec.instance.clone()),
            fleet: Some(spec.fleet.clone()),
            pool: Some(spec.pool.clone()),
            status: CloudStatus::Running,
            gone: None,
            boots: self.wrong(&places).all(|modes| now >= modes.duds),
            spot: spec.offering.capacity == CapacityKind::Spot,
            interruption_at: None,
            noticed: false,
            place: Place::in_rack(provider.as_str(), region, zone, rack),
            instance_type: spec.offering.instance_type.clone(),
            micros: self.micros(&spec.offering),
        };
        let lost = self.wrong(&places).any(|modes| now < modes.lost_answers);
        let shown = rented.shown();
        let id = rented.id.clone();
        self.add(rented);
        let answer = if lost {
            let what = "the connection broke before the answer";
            Err(error(ProviderErrorKind::OutcomeUnknown, what))
        } else {
            Ok(shown)
        };
        (Done::Made(id), answer)
    }

    /// Somebody else rents a machine in the account: without a tag, or with that of a fleet that is
    /// none of ours.
    pub(crate) fn stranger(&mut self, fleet: Option<FleetId>) -> ProviderInstanceId {
        self.made += 1;
        let id = ProviderInstanceId::new(format!("m-{}", self.made));
        let provider = self.offerings.first();
        let rented = Rented {
            id: id.clone(),
            instance: fleet
                .as_ref()
                .map(|_| InstanceId::new(format!("nv-strange-{}", self.made))),
            fleet,
            pool: None,
            status: CloudStatus::Running,
            gone: None,
            boots: false,
            spot: false,
            interruption_at: None,
            noticed: false,
            place: Place {
                provider: provider.map_or_else(String::new, |one| one.provider.to_string()),
                ..Place::default()
            },
            instance_type: String::new(),
            micros: 0,
        };
        self.add(rented);
        id
    }

    fn terminate(
        &mut self,
        now: Time,
        provider: &ProviderName,
        id: &ProviderInstanceId,
    ) -> (Done, Result<TerminateAnswer, ProviderError>) {
        if let Err(error) = self.status_api(now, provider) {
            return (Done::Nothing, Err(error));
        }
        match self.machines.get_mut(id) {
            Some(machine) if machine.status == CloudStatus::Terminating => {
                (Done::Nothing, Ok(TerminateAnswer::Accepted))
            }
            Some(machine) if machine.is_alive() => {
                machine.status = CloudStatus::Terminating;
                (Done::Ending(id.clone()), Ok(TerminateAnswer::Accepted))
            }
            _ => (Done::Nothing, Ok(TerminateAnswer::Gone)),
        }
    }

    fn list(&mut self, now: Time, provider: &ProviderName) -> (Vec<Machine>, bool) {
        let mut shown = self.shown(now, provider);
        let own = [provider.to_string()];
        let wrong = self
            .wrong(&own)
            .flat_map(|modes| modes.listings.iter().rev())
            .find(|(until, _)| now < *until);
        let Some((_, listing)) = wrong.copied() else {
            return (shown, true);
        };
        match listing {
            Listing::Partial => {
                shown.truncate(shown.len() / 2);
                (shown, false)
            }
            Listing::Empty => {
                self.lied = true;
                (Vec::new(), true)
            }
            Listing::Stale => {
                self.lied = true;
                let past = self
                    .past
                    .iter()
                    .rev()
                    .find(|(at, _)| now.0 - at.0 > 180_000_000)
                    .or(self.past.first());
                let own = |past: &[Rented]| {
                    let own = past.iter();
                    own.filter(|one| one.place.provider == provider.as_str())
                        .map(Rented::shown)
                        .collect()
                };
                (past.map_or(shown, |(_, past)| own(past)), true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_shows_its_own_machines_and_prices_alone() {
        let offerings = ["east", "west"].map(|provider| Offering {
            provider: ProviderName::new(provider),
            region: "here".to_owned(),
            zone: String::new(),
            instance_type: "gpu".to_owned(),
            capacity: CapacityKind::OnDemand,
        });
        let mut cloud = Cloud::new(true, offerings.to_vec());
        for offering in &offerings {
            let spec = LaunchSpec {
                instance: InstanceId::new(format!("nv-{}", offering.provider)),
                fleet: FleetId::new("fleet"),
                pool: PoolName::new("main"),
                offering: offering.clone(),
                labels: BTreeMap::new(),
            };
            let (_, made) = cloud.launch(Time(0), &spec);
            assert!(made.is_ok(), "{made:?}");
        }
        for offering in &offerings {
            let (shown, complete) = cloud.list(Time(0), &offering.provider);
            let own = format!("nv-{}", offering.provider);
            let shown: Vec<_> = shown.into_iter().map(|one| one.instance).collect();
            assert_eq!(shown, [Some(InstanceId::new(own))]);
            assert!(complete);
            assert_eq!(cloud.offers(Time(0), &offering.provider).len(), 1);
        }
    }
}
