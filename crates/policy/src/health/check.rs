//! What can be known about a condition before it runs: its names, its cost, whether it can be true.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use regex::RegexBuilder;

use super::condition::Problem;
use super::event::FIELDS;
use super::limits::MAX_PATTERN_BYTES;
use super::quick::{Test, WordTest};
use super::value::{MAX_METRICS, Pattern};

/// What the checks found out.
pub(super) struct Checked {
    /// What can be decided without the interpreter.
    pub(super) test: Test,
    /// How many steps it may take.
    pub(super) steps: u64,
}

/// Functions that are called with everything in brackets.
const GLOBAL: [&str; 12] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "matches",
    "size",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// Functions that are called on a value.
const MEMBER: [&str; 15] = [
    "contains",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "matches",
    "size",
    "startsWith",
];

/// Macros; they are expanded before the checks, unless they are called the wrong way.
const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];

/// Names of types.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Checks `expression` and compiles its patterns in place.
pub(super) fn check(
    expression: &mut IdedExpr,
    places: &SourceInfo,
    patterns: &mut Vec<Pattern>,
    warnings: &mut Vec<Problem>,
) -> Result<Checked, Vec<Problem>> {
    let mut names = Names {
        places,
        scope: Vec::new(),
        patterns,
        problems: Vec::new(),
        warnings,
    };
    names.walk(expression);
    let mut problems = names.problems;
    if never_boolean(expression) {
        problems.push(Problem::new(
            place(places, expression),
            "condition is never true or false: compare the value with something",
        ));
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem| problem.offset);
        return Err(problems);
    }
    let test = Test::of(expression);
    if test.kinds() == 0 {
        warnings.push(Problem::new(
            place(places, expression),
            "condition is never true: no event has this event_type and system",
        ));
    }
    Ok(Checked {
        test,
        steps: cost(expression),
    })
}

/// Where an expression begins, in characters.
fn place(places: &SourceInfo, expression: &IdedExpr) -> usize {
    places
        .offset_for(expression.id)
        .and_then(|(start, _)| places.source.get(..start as usize))
        .map_or(0, |before| before.chars().count())
}

pub(super) fn string(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// The known name nearest to `name`, for a message.
fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .min()
        .map_or_else(String::new, |(_, known)| {
            format!("; did you mean {known:?}?")
        })
}

/// Checks every name.
struct Names<'c> {
    places: &'c SourceInfo,
    scope: Vec<String>,
    patterns: &'c mut Vec<Pattern>,
    problems: Vec<Problem>,
    warnings: &'c mut Vec<Problem>,
}

impl Names<'_> {
    fn problem(&mut self, at: &IdedExpr, message: String) {
        let problem = Problem::new(place(self.places, at), message);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn is_event(&self, expression: &IdedExpr) -> bool {
        matches!(&expression.expr, Expr::Ident(name) if name == "event")
            && !self.scope.iter().any(|name| name == "event")
    }

    fn walk(&mut self, expression: &mut IdedExpr) {
        if let Expr::Call(call) = &expression.expr {
            let (id, call) = (expression.id, call.clone());
            if let Some(compiled) = self.pattern(expression, &call) {
                *expression = IdedExpr { id, expr: compiled };
            }
        }
        match &expression.expr {
            Expr::Ident(name) => self.variable(expression, name),
            Expr::Call(call) => self.function(expression, call),
            Expr::Select(select) if self.is_event(&select.operand) => {
                self.field(expression, &select.field, select.test);
            }
            Expr::Struct(literal) => {
                let message = format!(
                    "there is no type {:?} to make a value of",
                    literal.type_name
                );
                self.problem(expression, message);
            }
            Expr::Comprehension(it) if may_be_map_literal(&it.iter_range) => {
                let message = "a map in the condition has no order: go through a list instead";
                self.problem(expression, message.to_owned());
            }
            Expr::Unspecified => self.problem(expression, "an expression is missing".to_owned()),
            _ => {}
        }
        match &mut expression.expr {
            // The arguments of a macro used the wrong way may name its items.
            Expr::Call(call) if MACROS.contains(&call.func_name.as_str()) => {}
            Expr::Call(call) => {
                for part in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                    self.walk(part);
                }
            }
            Expr::Select(select) => self.walk(&mut select.operand),
            Expr::List(list) => list.elements.iter_mut().for_each(|it| self.walk(it)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.walk(&mut entry.key);
                        self.walk(&mut entry.value);
                    }
                }
            }
            Expr::Comprehension(it) => self.comprehension(it),
            Expr::Struct(_) | Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified => {}
        }
    }

    fn comprehension(&mut self, it: &mut ComprehensionExpr) {
        self.walk(&mut it.iter_range);
        self.walk(&mut it.accu_init);
        let outer = self.scope.len();
        self.scope.push(it.accu_var.clone());
        self.walk(&mut it.result);
        self.scope.push(it.iter_var.clone());
        self.scope.extend(it.iter_var2.clone());
        self.walk(&mut it.loop_cond);
        self.walk(&mut it.loop_step);
        self.scope.truncate(outer);
    }

    fn variable(&mut self, at: &IdedExpr, name: &str) {
        let known = name == "event"
            || TYPES.contains(&name)
            || self.scope.iter().any(|known| known == name)
            || self.pattern_of(name).is_some();
        if known {
            return;
        }
        let hint = if FIELDS.contains(&name) {
            format!("; write event.{name}")
        } else if name.contains("_") {
            format!("; write event.metrics.{name} for a metric")
        } else {
            nearest(name, ["event"])
        };
        self.problem(at, format!("unknown variable {name:?}{hint}"));
    }

    fn pattern_of(&self, name: &str) -> Option<&Pattern> {
        let at: usize = name.strip_prefix(Pattern::PREFIX)?.parse().ok()?;
        self.patterns.get(at)
    }

    fn field(&mut self, at: &IdedExpr, field: &str, presence: bool) {
        if FIELDS.contains(&field) {
            return;
        }
        let hint = nearest(field, FIELDS);
        let message = format!(
            "an event has no field {field:?}{}",
            if hint.is_empty() {
                format!("; write event.metrics.{field} for a metric")
            } else {
                hint
            }
        );
        if presence {
            self.warnings
                .push(Problem::new(place(self.places, at), message));
        } else {
            self.problem(at, message);
        }
    }

    fn function(&mut self, at: &IdedExpr, call: &CallExpr) {
        let name = call.func_name.as_str();
        if is_operator(name) {
            if name == operators::INDEX
                && let [value, key] = call.args.as_slice()
                && self.is_event(value)
                && let Some(field) = string(key)
            {
                self.field(at, field, false);
            }
            self.vocabulary(at, call);
            return;
        }
        let (known, other): (&[&str], &[&str]) = if call.target.is_some() {
            (&MEMBER, &GLOBAL)
        } else {
            (&GLOBAL, &MEMBER)
        };
        if known.contains(&name) {
            return;
        }
        let message = if MACROS.contains(&name) {
            let usage = if name == "has" {
                "has(event.metrics.name)".to_owned()
            } else {
                format!("list.{name}(item, condition)")
            };
            format!("wrong use of {name:?}: write {usage}")
        } else if other.contains(&name) && call.target.is_some() {
            format!("{name:?} is not called on a value: write {name}(value)")
        } else if other.contains(&name) {
            format!("{name:?} is called on a value: write value.{name}(…)")
        } else {
            let hint = nearest(name, known.iter().chain(&MACROS).copied());
            format!("unknown function {name:?}{hint}")
        };
        self.problem(at, message);
    }

    /// Warns of words that no event has.
    fn vocabulary(&mut self, at: &IdedExpr, call: &CallExpr) {
        let Some(test) = WordTest::of(call) else {
            return;
        };
        if self.scope.iter().any(|name| name == "event") {
            return;
        }
        let Some(known) = test.field.words() else {
            return;
        };
        for word in &test.words {
            if !known.contains(word) {
                let hint = nearest(word, known.iter().copied());
                self.warnings.push(Problem::new(
                    place(self.places, at),
                    format!("event.{} is never {word:?}{hint}", test.field.name()),
                ));
            }
        }
    }

    /// The compiled form of a call of `matches`.
    fn pattern(&mut self, at: &IdedExpr, call: &CallExpr) -> Option<Expr> {
        if call.func_name != "matches" {
            return None;
        }
        let (text, pattern) = match (&call.target, call.args.as_slice()) {
            (Some(text), [pattern]) => (text.as_ref(), pattern),
            (None, [text, pattern]) => (text, pattern),
            _ => {
                self.problem(at, "write value.matches(\"pattern\")".to_owned());
                return None;
            }
        };
        let Some(source) = string(pattern) else {
            self.problem(
                pattern,
                "the pattern of matches must stand in the rule, in quotes".to_owned(),
            );
            return None;
        };
        let compiled = RegexBuilder::new(source)
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES)
            .nest_limit(32)
            .build();
        match compiled {
            Ok(regex) => {
                self.patterns.push(Pattern(regex));
                let name = format!("{}{}", Pattern::PREFIX, self.patterns.len() - 1);
                Some(Expr::Call(CallExpr {
                    func_name: operators::IN.to_owned(),
                    target: None,
                    args: vec![
                        text.clone(),
                        IdedExpr {
                            id: pattern.id,
                            expr: Expr::Ident(name),
                        },
                    ],
                }))
            }
            Err(regex::Error::CompiledTooBig(_)) => {
                self.problem(pattern, "the pattern is too large".to_owned());
                None
            }
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                self.problem(pattern, format!("bad pattern: {reason}"));
                None
            }
        }
    }
}

fn is_operator(name: &str) -> bool {
    [
        operators::CONDITIONAL,
        operators::LOGICAL_AND,
        operators::LOGICAL_OR,
        operators::LOGICAL_NOT,
        operators::SUBSTRACT,
        operators::ADD,
        operators::MULTIPLY,
        operators::DIVIDE,
        operators::MODULO,
        operators::EQUALS,
        operators::NOT_EQUALS,
        operators::GREATER_EQUALS,
        operators::LESS_EQUALS,
        operators::GREATER,
        operators::LESS,
        operators::NEGATE,
        operators::INDEX,
        operators::IN,
        operators::NOT_STRICTLY_FALSE,
    ]
    .contains(&name)
}

/// Whether going through `range` may go through a map that the condition writes out.
fn may_be_map_literal(range: &IdedExpr) -> bool {
    match &range.expr {
        Expr::Map(_) => true,
        Expr::Call(call) => call.args.iter().any(may_be_map_literal),
        _ => false,
    }
}

/// Whether an expression can only give something else than true or false.
fn never_boolean(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
        Expr::Ident(name) => name == "event" || TYPES.contains(&name.as_str()),
        Expr::Select(select) => {
            !select.test
                && matches!(&select.operand.expr, Expr::Ident(name) if name == "event")
                && FIELDS.contains(&select.field.as_str())
        }
        Expr::Call(call) => match call.func_name.as_str() {
            operators::CONDITIONAL => call.args.iter().skip(1).all(never_boolean),
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE => true,
            "bytes" | "double" | "duration" | "int" | "size" | "string" | "timestamp" | "type"
            | "uint" => true,
            name => name.starts_with("get"),
        },
        Expr::Comprehension(it) => {
            matches!(it.accu_init.expr, Expr::List(_))
                && matches!(&it.result.expr, Expr::Ident(name) if *name == it.accu_var)
        }
        Expr::Unspecified => false,
    }
}

/// The most elements that going through an expression can give.
fn elements(range: &IdedExpr) -> u64 {
    let most = MAX_METRICS as u64;
    match &range.expr {
        Expr::List(list) => list.elements.len() as u64,
        Expr::Comprehension(it) => elements(&it.iter_range),
        Expr::Call(call) => match call.func_name.as_str() {
            operators::ADD => call
                .args
                .iter()
                .fold(0, |sum, part| elements(part).saturating_add(sum)),
            operators::CONDITIONAL => call.args.iter().map(elements).max().unwrap_or(most),
            _ => most,
        },
        _ => most,
    }
}

/// The most steps that an expression takes.
fn cost(expression: &IdedExpr) -> u64 {
    let all = |parts: &[IdedExpr]| parts.iter().map(cost).fold(0, u64::saturating_add);
    let inner = match &expression.expr {
        Expr::Call(call) => all(&call.args).saturating_add(call.target.as_deref().map_or(0, cost)),
        Expr::Select(select) => cost(&select.operand),
        Expr::List(list) => all(&list.elements),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => cost(&entry.key).saturating_add(cost(&entry.value)),
                EntryExpr::StructField(_) => 0,
            })
            .fold(0, u64::saturating_add),
        Expr::Comprehension(it) => {
            let pass = cost(&it.loop_cond).saturating_add(cost(&it.loop_step));
            elements(&it.iter_range)
                .saturating_mul(pass)
                .saturating_add(cost(&it.iter_range))
                .saturating_add(cost(&it.result))
        }
        Expr::Struct(_) | Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified => 0,
    };
    inner.saturating_add(1)
}
