//! Who may do what: the roles of tokens.

/// What a token may do. Each call of the contract names the least role that may make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Speaks for machines: registers, beats, reports, takes commands. Nothing else.
    Agent,
    /// Reads.
    Viewer,
    /// Reads, and does what a person on call does to nodes, incidents and switches.
    Operator,
    /// Everything that is not an agent's.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Viewer, Self::Operator, Self::Admin];

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// Whether this role may make a call that needs `needed`. People do not speak for machines,
    /// whatever their role, and machines do nothing else.
    pub fn may(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Agent, _) | (_, Self::Agent) => self == needed,
            _ => self >= needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Role::{self, Admin, Agent, Operator, Viewer};

    #[test]
    fn each_role_may_what_the_table_says() {
        for (role, allowed) in [
            (Agent, &[Agent][..]),
            (Viewer, &[Viewer]),
            (Operator, &[Viewer, Operator]),
            (Admin, &[Viewer, Operator, Admin]),
        ] {
            for needed in Role::ALL {
                assert_eq!(
                    role.may(needed),
                    allowed.contains(&needed),
                    "{role:?} and {needed:?}"
                );
            }
        }
    }
}
