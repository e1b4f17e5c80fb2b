//! Licences: whether an SPDX expression is satisfied by a list of permitted ones.

use serde::Deserialize;

/// The part of `deny.toml` that the tests read; cargo-deny reads the rest as well.
#[derive(Debug, Deserialize)]
pub struct DenyFile {
    /// What licences are permitted.
    pub licenses: Licenses,
    /// Where packages may come from.
    pub sources: Sources,
}

/// The section `[licenses]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Licenses {
    /// SPDX identifiers, with their exception where one belongs to them.
    pub allow: Vec<String>,
}

/// The section `[sources]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sources {
    /// The index addresses of the permitted registries.
    pub allow_registry: Vec<String>,
}

/// Whether the list permits what the expression asks for.
///
/// `OR` and the old `/` need one side, `AND` needs both; `A WITH B` must stand in the list as a
/// whole.
///
/// # Errors
///
/// When the expression is not SPDX; the message says where it stops making sense.
pub fn permitted(expression: &str, allow: &[String]) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        words: &words,
        allow,
    };
    let result = parser.either()?;
    match parser.words.first() {
        None => Ok(result),
        Some(word) => Err(format!("`{word}` was not expected in `{expression}`")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    allow: &'a [String],
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn either(&mut self) -> Result<bool, String> {
        let mut result = self.both()?;
        while self.take("OR") {
            result |= self.both()?;
        }
        Ok(result)
    }

    fn both(&mut self) -> Result<bool, String> {
        let mut result = self.one()?;
        while self.take("AND") {
            result &= self.one()?;
        }
        Ok(result)
    }

    fn one(&mut self) -> Result<bool, String> {
        let word = self.next().ok_or("a licence is missing at the end")?;
        match word {
            "(" => {
                let result = self.either()?;
                if self.take(")") {
                    Ok(result)
                } else {
                    Err("a bracket is not closed".to_owned())
                }
            }
            ")" | "OR" | "AND" | "WITH" => Err(format!("`{word}` stands where a licence belongs")),
            licence => {
                let mut name = licence.to_owned();
                if self.take("WITH") {
                    let exception = self.next().ok_or("an exception is missing at the end")?;
                    name = format!("{licence} WITH {exception}");
                }
                Ok(self.allow.contains(&name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow() -> Vec<String> {
        ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn expressions_are_judged_by_the_list() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("MIT AND ISC", true),
            ("MIT/GPL-3.0", true),
            ("(MIT OR GPL-3.0) AND ISC", true),
            ("(MIT OR ISC) AND GPL-3.0", false),
            ("MIT OR GPL-3.0 AND LGPL-2.1", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("mit", false),
        ] {
            assert_eq!(
                permitted(expression, &allow()),
                Ok(expected),
                "{expression}"
            );
        }
    }

    #[test]
    fn what_is_not_an_expression_is_refused() {
        for bad in [
            "", "MIT OR", "AND MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH", "()", "OR",
        ] {
            assert!(permitted(bad, &allow()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_list_is_read_from_the_file() {
        let text =
            "[licenses]\nallow = [\"MIT\"]\n[sources]\nallow-registry = [\"r\"]\n[bans]\nx = 1\n";
        let file: DenyFile = toml::from_str(text).expect("the sample is TOML");
        assert_eq!(file.licenses.allow, ["MIT"]);
        assert_eq!(file.sources.allow_registry, ["r"]);
    }
}
