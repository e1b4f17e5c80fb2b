//! What can be said of a condition without running it: most events are quiet readings, and most
//! rules begin by asking for something that a quiet reading is not.

use std::cmp::Ordering;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use navarch_model::{HealthEventType, HealthWatchSystem};

use super::check::string;
use super::event::{EventFacts, Metric, system_name};
use crate::catalogue::Advice;

/// The parts of a condition whose values follow from the event alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// Something else: only the interpreter knows.
    Unknown,
    /// `true` or `false`.
    Constant(bool),
    /// `event.event_type` or `event.system` is one of some words: a bit for each kind of event.
    Kinds(u128),
    /// `event.watch` is one of these.
    Watch(Vec<String>),
    /// `event.repair` is one of these.
    Repair(Vec<String>),
    /// `has(event.metrics.name)`.
    Metric(String),
    /// Two metrics, or one and a literal. What is missing or cannot be compared is left to the
    /// interpreter, which says so.
    Compare(Operand, Comparison, Operand),
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
}

impl Test {
    /// Reads a condition.
    pub(super) fn of(expression: &IdedExpr) -> Self {
        match &expression.expr {
            Expr::Literal(LiteralValue::Boolean(it)) => Self::Constant(*it.inner()),
            Expr::Select(select) if select.test && is_metrics(&select.operand) => {
                Self::Metric(select.field.clone())
            }
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::LOGICAL_AND, parts) => Self::All(parts.iter().map(Self::of).collect()),
                (operators::LOGICAL_OR, parts) => Self::Any(parts.iter().map(Self::of).collect()),
                (operators::LOGICAL_NOT, [part]) => Self::Not(Box::new(Self::of(part))),
                _ => WordTest::of(call)
                    .map(|test| test.test())
                    .or_else(|| Self::comparison(call))
                    .unwrap_or(Self::Unknown),
            },
            _ => Self::Unknown,
        }
    }

    fn comparison(call: &CallExpr) -> Option<Self> {
        let comparison = Comparison::of(&call.func_name)?;
        let [left, right] = call.args.as_slice() else {
            return None;
        };
        Some(Self::Compare(
            Operand::of(left)?,
            comparison,
            Operand::of(right)?,
        ))
    }

    /// What the condition gives for an event; none if only the interpreter knows. As there, one
    /// false part of `&&` and one true part of `||` decide, whatever becomes of the others.
    pub(super) fn decide(&self, event: &EventFacts<'_>, advice: Option<&Advice>) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Constant(value) => Some(*value),
            Self::Kinds(kinds) => Some(kinds & kind_of(event) != 0),
            Self::Watch(words) => Some(words.iter().any(|word| word == event.watch)),
            Self::Repair(words) => {
                let repair = advice.map_or(Advice::UNKNOWN, Advice::word);
                Some(words.iter().any(|word| word == repair))
            }
            Self::Metric(name) => Some(event.metrics.contains_key(name)),
            Self::Compare(left, comparison, right) => {
                comparison.holds(left.value(event)?, right.value(event)?)
            }
            Self::Not(part) => part.decide(event, advice).map(|value| !value),
            Self::All(parts) => until(parts, event, advice, false),
            Self::Any(parts) => until(parts, event, advice, true),
        }
    }

    /// The kinds of events for which the condition may be true.
    pub(super) fn kinds(&self) -> u128 {
        match self {
            Self::Constant(false) => 0,
            Self::Kinds(kinds) => *kinds,
            Self::All(parts) => parts.iter().fold(ALL_KINDS, |kinds, it| kinds & it.kinds()),
            Self::Any(parts) => parts.iter().fold(0, |kinds, it| kinds | it.kinds()),
            _ => ALL_KINDS,
        }
    }
}

/// The value of parts of which one that is `decisive` decides.
fn until(
    parts: &[Test],
    event: &EventFacts<'_>,
    advice: Option<&Advice>,
    decisive: bool,
) -> Option<bool> {
    let mut value = Some(!decisive);
    for part in parts {
        match part.decide(event, advice) {
            Some(it) if it == decisive => return Some(decisive),
            Some(_) => {}
            None => value = None,
        }
    }
    value
}

fn is_event(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name == "event")
}

fn is_metrics(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Select(select)
        if !select.test && select.field == "metrics" && is_event(&select.operand))
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// `event.metrics.name`.
    Metric(String),
    Literal(Metric<'static>),
}

impl Operand {
    fn of(expression: &IdedExpr) -> Option<Self> {
        Some(match &expression.expr {
            Expr::Select(select) if !select.test && is_metrics(&select.operand) => {
                Self::Metric(select.field.clone())
            }
            Expr::Literal(LiteralValue::Int(it)) => Self::Literal(Metric::Int(*it.inner())),
            Expr::Literal(LiteralValue::Double(it)) => Self::Literal(Metric::Float(*it.inner())),
            Expr::Literal(LiteralValue::Boolean(it)) => Self::Literal(Metric::Bool(*it.inner())),
            _ => return None,
        })
    }

    /// None if the event has no such metric.
    fn value<'e>(&self, event: &EventFacts<'e>) -> Option<Metric<'e>> {
        match self {
            Self::Metric(name) => event.metrics.get(name).map(|text| Metric::of(text)),
            Self::Literal(value) => Some(*value),
        }
    }
}

/// What is asked of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn of(operator: &str) -> Option<Self> {
        Some(match operator {
            operators::EQUALS => Self::Equal,
            operators::NOT_EQUALS => Self::NotEqual,
            operators::LESS => Self::Less,
            operators::LESS_EQUALS => Self::LessOrEqual,
            operators::GREATER => Self::Greater,
            operators::GREATER_EQUALS => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// Whether it holds; none for values whose types the interpreter may refuse to compare, or
    /// compares in a way of its own.
    fn holds(self, left: Metric<'_>, right: Metric<'_>) -> Option<bool> {
        if matches!(self, Self::Equal | Self::NotEqual) {
            let same = match (left, right) {
                (Metric::Int(left), Metric::Int(right)) => left == right,
                (Metric::Bool(left), Metric::Bool(right)) => left == right,
                _ => return None,
            };
            return Some(same == (self == Self::Equal));
        }
        let order = match (left, right) {
            (Metric::Int(left), Metric::Int(right)) => left.cmp(&right),
            (Metric::Int(left), Metric::Float(right)) => (left as f64).partial_cmp(&right)?,
            (Metric::Float(left), Metric::Int(right)) => left.partial_cmp(&(right as f64))?,
            (Metric::Float(left), Metric::Float(right)) => left.partial_cmp(&right)?,
            _ => return None,
        };
        Some(match self {
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Greater => order == Ordering::Greater,
            _ => order != Ordering::Less,
        })
    }
}

/// How many words [`HealthWatchSystem`] has.
const SYSTEMS: i32 = 12;

const ALL_KINDS: u128 = u128::MAX;

/// The bit of the kind of an event.
pub(super) fn kind_of(event: &EventFacts<'_>) -> u128 {
    bit(event.event_type, event.system)
}

/// The bit of a kind of event: one per event type and system.
fn bit(event_type: HealthEventType, system: HealthWatchSystem) -> u128 {
    let at = event_type.number() * SYSTEMS + system.number();
    1_u128.checked_shl(at.cast_unsigned()).unwrap_or(0)
}

/// A field of an event that holds one of some words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    EventType,
    System,
    Watch,
    Repair,
}

impl Field {
    fn of(expression: &IdedExpr) -> Option<Self> {
        let Expr::Select(select) = &expression.expr else {
            return None;
        };
        if select.test || !is_event(&select.operand) {
            return None;
        }
        match select.field.as_str() {
            "event_type" => Some(Self::EventType),
            "system" => Some(Self::System),
            "watch" => Some(Self::Watch),
            "repair" => Some(Self::Repair),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::System => "system",
            Self::Watch => "watch",
            Self::Repair => "repair",
        }
    }

    /// The words that it can hold; none if there is no list of them.
    pub(super) fn words(self) -> Option<Vec<&'static str>> {
        match self {
            Self::EventType => Some(HealthEventType::ALL.iter().map(|it| it.short()).collect()),
            Self::System => Some(
                HealthWatchSystem::ALL
                    .iter()
                    .map(|it| system_name(*it))
                    .collect(),
            ),
            Self::Watch => None,
            Self::Repair => Some(Advice::WORDS.to_vec()),
        }
    }
}

/// A comparison of a field with words.
pub(super) struct WordTest<'e> {
    pub(super) field: Field,
    pub(super) words: Vec<&'e str>,
    negated: bool,
}

impl<'e> WordTest<'e> {
    pub(super) fn of(call: &'e CallExpr) -> Option<Self> {
        let [left, right] = call.args.as_slice() else {
            return None;
        };
        let (field, words, negated) = match call.func_name.as_str() {
            operators::EQUALS | operators::NOT_EQUALS => {
                let (field, word) = match (Field::of(left), Field::of(right)) {
                    (Some(field), None) => (field, string(right)?),
                    (None, Some(field)) => (field, string(left)?),
                    _ => return None,
                };
                let negated = call.func_name == operators::NOT_EQUALS;
                (field, vec![word], negated)
            }
            operators::IN => {
                let Expr::List(list) = &right.expr else {
                    return None;
                };
                let words: Option<Vec<_>> = list.elements.iter().map(string).collect();
                (Field::of(left)?, words?, false)
            }
            _ => return None,
        };
        Some(Self {
            field,
            words,
            negated,
        })
    }

    fn test(&self) -> Test {
        let words = || self.words.iter().map(|word| (*word).to_owned()).collect();
        let test = match self.field {
            Field::EventType | Field::System => {
                let kinds = self.kinds();
                return Test::Kinds(if self.negated { !kinds } else { kinds });
            }
            Field::Watch => Test::Watch(words()),
            Field::Repair => Test::Repair(words()),
        };
        if self.negated {
            Test::Not(Box::new(test))
        } else {
            test
        }
    }

    fn kinds(&self) -> u128 {
        let mut kinds = 0;
        for &event_type in HealthEventType::ALL {
            for &system in HealthWatchSystem::ALL {
                let word = match self.field {
                    Field::EventType => event_type.short(),
                    _ => system_name(system),
                };
                if self.words.contains(&word) {
                    kinds |= bit(event_type, system);
                }
            }
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_bit_of_its_own() {
        let mut seen = 0;
        for &event_type in HealthEventType::ALL {
            for &system in HealthWatchSystem::ALL {
                let bit = bit(event_type, system);
                assert!(bit != 0 && seen & bit == 0, "{event_type} {system}");
                seen |= bit;
            }
        }
    }
}
