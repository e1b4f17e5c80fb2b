//! Time zones and cron expressions, both with their rules compiled in.

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A time zone of the database that is part of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// The zone of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        // Names of hostile files may be long.
        if name.len() > 64 {
            return None;
        }
        let zone = TimeZoneDatabase::bundled().get(name).ok()?;
        let name = zone.iana_name().unwrap_or(name).to_owned();
        Some(Self { name, zone })
    }

    /// Every name.
    #[must_use]
    pub fn names() -> Vec<String> {
        let database = TimeZoneDatabase::bundled();
        database.available().map(|name| name.to_string()).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules.
    #[must_use]
    pub const fn rules(&self) -> &TimeZone {
        &self.zone
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self {
            name: "UTC".to_owned(),
            zone: TimeZone::UTC,
        }
    }
}

/// A cron expression of five fields.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    moments: Box<croner::Cron>,
}

impl Cron {
    /// Reads minute, hour, day of the month, month and day of the week.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The longest sensible list of minutes is shorter.
        if text.len() > 256 {
            return Err("it has more than 256 bytes".to_owned());
        }
        let fields = text.split_whitespace().count();
        if fields != 5 {
            return Err(format!(
                "it has {fields} fields: write minute, hour, day of the month, month and day of \
                 the week, such as 0 8 * * mon-fri"
            ));
        }
        let parser = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .year(croner::parser::Year::Disallowed)
            .build();
        let moments = parser.parse(text).map_err(|error| error.to_string())?;
        Ok(Self {
            text: text.split_whitespace().collect::<Vec<_>>().join(" "),
            moments: Box::new(moments),
        })
    }

    /// The expression.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The moments.
    #[must_use]
    pub fn moments(&self) -> &croner::Cron {
        &self.moments
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}
