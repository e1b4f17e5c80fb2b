//! The event as CEL sees it: values that borrow the event and type a metric when a rule asks for it.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator, Sizer};
use cel::common::types::{CelBool, CelDouble, CelInt, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::context::VariableResolver;
use regex::Regex;

use super::event::{EventFacts, FIELDS, Metric, rfc3339, system_name};
use crate::catalogue::Advice;

/// How many metrics of an event rules may go through; agents send fewer than twenty. Lower makes
/// honest events a finding; higher makes rules that go through all of them slow.
pub(super) const MAX_METRICS: usize = 256;

/// How much of a text rules see, in bytes; agents cut messages at about one kilobyte.
pub(super) const MAX_TEXT_BYTES: usize = 64 << 10;

/// What a condition resolves its names in: the event, and the patterns of the file.
pub(super) struct Scope<'v> {
    event: EventValue<'v>,
    patterns: &'v [Pattern],
}

impl<'v> Scope<'v> {
    pub(super) fn new(
        facts: EventFacts<'v>,
        advice: Option<Advice>,
        patterns: &'v [Pattern],
    ) -> Self {
        Self {
            event: EventValue {
                facts,
                advice,
                metrics: MetricsValue {
                    metrics: facts.metrics,
                    names: OnceLock::new(),
                },
                fields: OnceLock::new(),
            },
            patterns,
        }
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if variable == "event" {
            return Some(CowVal::Borrowed(&self.event));
        }
        let at: usize = variable.strip_prefix(Pattern::PREFIX)?.parse().ok()?;
        Some(CowVal::Borrowed(self.patterns.get(at)?))
    }
}

/// `text`, cut at [`MAX_TEXT_BYTES`].
fn shown(text: &str) -> &str {
    if text.len() <= MAX_TEXT_BYTES {
        return text;
    }
    let mut end = MAX_TEXT_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn text<'b, 'v>(text: &'v str) -> CowVal<'b, 'v> {
    CowVal::owned(CelString::from(shown(text)))
}

/// A name used as key: `event.name`, `event["name"]`.
fn key_of(key: &dyn Val) -> Result<&str, ExecutionError> {
    key.downcast_ref::<CelString<'_>>()
        .map(|name| name.inner())
        .ok_or_else(|| ExecutionError::UnexpectedType {
            got: key.get_type().name().to_owned(),
            want: "string".to_owned(),
        })
}

/// The variable `event`.
#[derive(Debug, Clone)]
struct EventValue<'v> {
    facts: EventFacts<'v>,
    advice: Option<Advice>,
    metrics: MetricsValue<'v>,
    fields: OnceLock<Vec<CelString<'static>>>,
}

impl Val for EventValue<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }
}

impl Indexer for EventValue<'_> {
    fn get<'b, 'w>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        let facts = &self.facts;
        Ok(match key_of(key)? {
            "metrics" => CowVal::Borrowed(&self.metrics),
            "event_type" => text(facts.event_type.short()),
            "system" => text(system_name(facts.system)),
            "watch" => text(facts.watch),
            "repair" => text(self.advice.as_ref().map_or(Advice::UNKNOWN, Advice::word)),
            "gpu_index" => CowVal::owned(CelInt::from(i64::from(facts.gpu_index))),
            "gpu_uuid" => text(facts.gpu_uuid),
            "message" => text(facts.message),
            "timestamp" => CowVal::owned(CelString::from(rfc3339(facts.timestamp))),
            other => return Err(ExecutionError::no_such_key(other)),
        })
    }

    fn steal<'w>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Container for EventValue<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(key_of(key).is_ok_and(|key| FIELDS.contains(&key)))
    }
}

impl Sizer for EventValue<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(FIELDS.len() as i64)
    }
}

impl Iterable for EventValue<'_> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn Iterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        let fields = self
            .fields
            .get_or_init(|| FIELDS.map(CelString::from).to_vec());
        Box::new(Names(fields.iter()))
    }
}

/// `event.metrics`.
#[derive(Debug, Clone)]
struct MetricsValue<'v> {
    metrics: &'v BTreeMap<String, String>,
    names: OnceLock<Vec<CelString<'v>>>,
}

impl Val for MetricsValue<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }
}

impl Indexer for MetricsValue<'_> {
    fn get<'b, 'w>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        let name = key_of(key)?;
        let written = self
            .metrics
            .get(name)
            .ok_or_else(|| ExecutionError::no_such_key(name))?;
        Ok(match Metric::of(written) {
            Metric::Int(int) => CowVal::owned(CelInt::from(int)),
            Metric::Float(float) => CowVal::owned(CelDouble::from(float)),
            Metric::Bool(bool) => CowVal::owned(CelBool::from(bool)),
            Metric::Text(it) => text(it),
        })
    }

    fn steal<'w>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Container for MetricsValue<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(key_of(key).is_ok_and(|key| self.metrics.contains_key(key)))
    }
}

impl Sizer for MetricsValue<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.metrics.len()).unwrap_or(i64::MAX))
    }
}

impl Iterable for MetricsValue<'_> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn Iterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        let names = self.names.get_or_init(|| {
            self.metrics
                .keys()
                .take(MAX_METRICS)
                .map(|name| CelString::from(shown(name)))
                .collect()
        });
        Box::new(Names(names.iter()))
    }
}

/// Goes through names in their order.
struct Names<'b, 'v>(std::slice::Iter<'b, CelString<'v>>);

impl<'b, 'v: 'w, 'w> Iterator<'b, 'w> for Names<'b, 'v> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'w)> {
        self.0.next().map(|name| name as &(dyn Val + 'w))
    }
}

static PATTERN_TYPE: Type = Type::new_unspecified_type("pattern");

/// A regular expression, compiled when its file was loaded. `text.matches("pattern")` becomes
/// `text in pattern`.
#[derive(Debug, Clone)]
pub(super) struct Pattern(pub(super) Regex);

impl Pattern {
    /// The name of pattern N is this and N. No condition can write an `@`.
    pub(super) const PREFIX: &'static str = "@pattern";
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &PATTERN_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

impl Container for Pattern {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        match value.downcast_ref::<CelString<'_>>() {
            Some(text) => Ok(self.0.is_match(text.inner())),
            None => Err(ExecutionError::function_error(
                "matches",
                format_args!("needs a string, got {}", value.get_type().name()),
            )),
        }
    }
}
