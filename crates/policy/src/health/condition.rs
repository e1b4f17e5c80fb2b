//! One condition: compiled, checked, and run against events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::ast::{IdedExpr, SourceInfo};
use cel::common::types::CelBool;
use cel::{Context, Env, ExecutionError, Value};

use super::check::{self, Checked};
use super::event::EventFacts;
use super::limits::{MAX_CONDITION_BYTES, MAX_STEPS, too_deep};
use super::quick::Test;
use super::value::{Pattern, Scope};
use crate::catalogue::Advice;

/// What the reference offers too: the standard functions and macros, without optional values.
static ENV: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// The longest error text that a finding keeps, in characters.
const MAX_ERROR_CHARS: usize = 300;

/// Something wrong or odd in a condition, with its place there in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) offset: usize,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            message: message.into(),
        }
    }
}

/// A condition that is ready to run.
#[derive(Debug)]
pub(super) struct Condition {
    expression: Box<IdedExpr>,
    /// What can be decided without the interpreter.
    test: Test,
    /// The kinds of events for which it may be true.
    kinds: u128,
    /// How many steps it may take.
    pub(super) steps: u64,
}

/// How a condition ended for one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    True,
    False,
    /// The event has no such metric.
    Missing(String),
    /// It gave something else than true or false: the name of its type.
    NotBoolean(String),
    /// It names something that does not exist.
    Undeclared(String),
    /// It could not be evaluated.
    Failed(String),
}

impl Condition {
    /// Compiles and checks a condition. Patterns of `matches` go to `patterns`; odd things that do
    /// not stop it go to `warnings`.
    pub(super) fn compile(
        source: &str,
        patterns: &mut Vec<Pattern>,
        warnings: &mut Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        if source.len() > MAX_CONDITION_BYTES {
            return Err(vec![Problem::new(
                0,
                format!(
                    "condition has {} bytes, more than the {MAX_CONDITION_BYTES} allowed: split the rule",
                    source.len()
                ),
            )]);
        }
        if let Some(at) = too_deep(source) {
            return Err(vec![Problem::new(
                source[..at].chars().count(),
                "condition nests too deeply: split the rule, or use a list with \"in\"",
            )]);
        }
        let (mut expression, places) = parse(source)?;
        let Checked { test, steps } = check::check(&mut expression, &places, patterns, warnings)?;
        if steps > MAX_STEPS {
            return Err(vec![Problem::new(
                0,
                format!(
                    "condition may take {steps} steps for one event, more than the {MAX_STEPS} allowed: nest fewer lists"
                ),
            )]);
        }
        Ok(Self {
            expression: Box::new(expression),
            kinds: test.kinds(),
            test,
            steps,
        })
    }

    /// Whether it is true for every event.
    pub(super) fn is_always(&self) -> bool {
        self.test == Test::Constant(true)
    }

    /// What it gives for an event of this kind, if that can be said without running it.
    pub(super) fn decide(
        &self,
        kind: u128,
        event: &EventFacts<'_>,
        advice: Option<&Advice>,
    ) -> Option<bool> {
        // Most events are of a kind that most rules are not about.
        if self.kinds & kind == 0 {
            return Some(false);
        }
        self.test.decide(event, advice)
    }

    /// Runs it.
    pub(super) fn run(&self, context: &Context<'_, '_>) -> Outcome {
        // The interpreter is not ours: a panic in it fails the rule, not the control plane.
        let value = catch_unwind(AssertUnwindSafe(|| {
            match Value::resolve_val(&self.expression, context) {
                Ok(value) => match value.downcast_ref::<CelBool>() {
                    Some(bool) if *bool.inner() => Outcome::True,
                    Some(_) => Outcome::False,
                    None => Outcome::NotBoolean(value.get_type().name().to_owned()),
                },
                Err(error) => Outcome::of_error(&error),
            }
        }));
        value.unwrap_or_else(|_| Outcome::Failed("the interpreter failed".to_owned()))
    }
}

impl Outcome {
    fn of_error(error: &ExecutionError) -> Self {
        match error {
            ExecutionError::NoSuchKey(key) => Self::Missing(key.to_string()),
            ExecutionError::UndeclaredReference(name) => Self::Undeclared(name.to_string()),
            other => Self::Failed(clip(&other.to_string())),
        }
    }
}

/// One line of at most [`MAX_ERROR_CHARS`] characters.
fn clip(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_ERROR_CHARS)
        .collect()
}

/// The context in which conditions run for one event.
pub(super) fn context<'v>(scope: &'v Scope<'v>) -> Context<'v, 'v> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    context.set_variable_resolver(scope);
    context
}

fn parse(source: &str) -> Result<(IdedExpr, SourceInfo), Vec<Problem>> {
    // Like the interpreter, the parser is not ours.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        ENV.parser().parse_with_source_info(source)
    }));
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(errors)) => {
            let mut problems: Vec<_> = errors
                .errors
                .iter()
                .filter(|error| !error.msg.starts_with("Incomplete"))
                .map(|error| Problem::new(offset(source, error.pos), plain(&error.msg)))
                .collect();
            problems.truncate(3);
            if problems.is_empty() {
                problems.push(Problem::new(0, "the condition is incomplete"));
            }
            Err(problems)
        }
        Err(_) => Err(vec![Problem::new(0, "the parser failed on this condition")]),
    }
}

/// The parser's message without what it would have taken instead, which is nearly everything.
fn plain(message: &str) -> String {
    let text = message.trim_start_matches("Syntax error: ");
    let what = [
        "mismatched input ",
        "extraneous input ",
        "no viable alternative at input ",
        "token recognition error at: ",
    ]
    .into_iter()
    .find_map(|begin| text.strip_prefix(begin))
    .map(|rest| rest.split(" expecting ").next().unwrap_or(rest));
    match what {
        _ if text.starts_with("missing") && text.ends_with("<EOF>'") => {
            "the condition ends too early".to_owned()
        }
        Some(what) if what.contains("<EOF>") => "the condition ends too early".to_owned(),
        Some(what) => format!("unexpected {}", clip(what)),
        None => clip(text),
    }
}

/// A place given as line and column from 1, in characters from the beginning.
fn offset(source: &str, (line, column): (isize, isize)) -> usize {
    let lines = usize::try_from(line - 1).unwrap_or(0);
    let before: usize = source
        .split_inclusive('\n')
        .take(lines)
        .map(|line| line.chars().count())
        .sum();
    before + usize::try_from(column - 1).unwrap_or(0)
}
