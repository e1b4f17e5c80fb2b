//! The keys of the section about the notifier.

use super::keys::{section, works};
use super::{Form, Section};

pub(super) static NOTIFIER: Section = Section {
    about: "The scheduler that is told which nodes may take work. It applies live.",
    keys: &[
        works(
            "type",
            Form::Word(&["noop", "webhook"]),
            "noop",
            "How the scheduler is told; noop tells nobody, and a drained node counts as empty at once.",
        ),
        works(
            "timeout",
            Form::Duration,
            "10s",
            "How long an operator's cordon, drain or uncordon waits for the scheduler's answer; shorter than server.limits.request_timeout.",
        ),
        section("webhook", &WEBHOOK),
    ],
};

static WEBHOOK: Section = Section {
    about: "A receiver of notices over HTTP. Calls whose URL is missing are not made and count as successful.",
    keys: &[
        works(
            "cordon_url",
            Form::Text,
            "",
            "Where a cordon is posted: place no new work on the node.",
        ),
        works(
            "uncordon_url",
            Form::Text,
            "",
            "Where an uncordon is posted: the node may take work again.",
        ),
        works(
            "drain_url",
            Form::Text,
            "",
            "Where a drain is posted: place no new work on the node, and let what runs come to its end.",
        ),
        works(
            "drain_status_url",
            Form::Text,
            "",
            "Where it is asked whether a drained node is empty; absent means that it is, once the drain was taken.",
        ),
        works(
            "timeout",
            Form::Duration,
            "30s",
            "Longest time for one call.",
        ),
        works(
            "headers",
            Form::Headers,
            "",
            "Headers of every call. No output shows their values.",
        ),
        works(
            "secret_file",
            Form::Text,
            "",
            "File with the secret that signs each notice; read again when the configuration is.",
        ),
        works(
            "secret_env",
            Form::Text,
            "",
            "Environment variable with that secret, instead of a file.",
        ),
    ],
};
