//! The keys of stress runs and generated fleets.

use super::super::keys::{section, works};
use super::super::{Form, Section};
use super::chaos::CHAOS;

pub(super) static STRESS: Section = Section {
    about: "Chaos for a while. The fleet starts by itself.",
    keys: &[
        works(
            "duration",
            Form::Duration,
            "10m",
            "How long the run takes after the start-up.",
        ),
        works(
            "metrics_interval",
            Form::Duration,
            "5s",
            "How often the fleet is counted.",
        ),
        works(
            "seed",
            Form::Number,
            "",
            "Seed of everything that is drawn; absent draws one and prints it.",
        ),
        works(
            "report_file",
            Form::Text,
            "",
            "Where a copy of report.json goes, relative to the run directory.",
        ),
        works(
            "html_report_file",
            Form::Text,
            "",
            "Where a copy of report.html goes, relative to the run directory.",
        ),
        works(
            "log_file",
            Form::Text,
            "",
            "Where a copy of the log goes, relative to the run directory.",
        ),
        section("fleet_gen", &FLEET_GEN),
        section("chaos", &CHAOS),
    ],
};

static FLEET_GEN: Section = Section {
    about: "A generated fleet of external nodes, whose ids are `PROVIDER-REGION-TEMPLATE-NNNN`.",
    keys: &[
        works("total_nodes", Form::Number, "", "Required. How many nodes."),
        works("templates", Form::List(&TEMPLATE), "", TEMPLATE.about),
        works(
            "providers",
            Form::Weights,
            "gcp 50, aws 35, lambda 15",
            "How often each provider is drawn.",
        ),
        works(
            "regions",
            Form::Weights,
            "us-central1 30, us-east1 25, us-west1 20, europe-west1 15, asia-east1 10",
            "How often each region is drawn.",
        ),
        works(
            "zones",
            Form::TextsByName,
            "REGION-a to REGION-d",
            "The zones of a region, all alike.",
        ),
        works("nodes_per_rack", Form::Number, "8", "Nodes in a rack."),
        section("startup", &STARTUP),
    ],
};

static TEMPLATE: Section = Section {
    about: "Kinds of nodes. At least one is required.",
    keys: &[
        works("name", Form::Text, "", "Required. Part of the node ids."),
        works(
            "weight",
            Form::Decimal,
            "",
            "Required. How often it is drawn; more than 0.",
        ),
        works(
            "gpu_count",
            Form::Number,
            "",
            "Required. How many GPUs; more than 0.",
        ),
        works(
            "gpu_type",
            Form::Text,
            "NVIDIA H100 80GB HBM3",
            "What the GPUs call themselves.",
        ),
        works(
            "instance_type",
            Form::Text,
            "by provider and GPUs",
            "The machine type; by the provider and the number of GPUs when it is absent.",
        ),
        works("labels", Form::Labels, "", "Labels of its nodes."),
    ],
};

static STARTUP: Section = Section {
    about: "How the generated nodes start.",
    keys: &[
        works(
            "pattern",
            Form::Word(&["instant", "linear", "exponential", "wave"]),
            "linear, with jitter",
            "All at once; one after another; one, two, four and so on; or in batches.",
        ),
        works(
            "duration",
            Form::Duration,
            "30s linear, 2m exponential, 5m wave",
            "Over how long.",
        ),
        works(
            "batch_size",
            Form::Number,
            "100",
            "Nodes of one batch of a wave.",
        ),
        works(
            "jitter_percent",
            Form::Decimal,
            "0, or 10 without a pattern",
            "How much each time varies, in percent.",
        ),
        works(
            "cold_start_min",
            Form::Duration,
            "",
            "The shortest boot of a node. Boots do not delay the starts of other nodes.",
        ),
        works("cold_start_max", Form::Duration, "", "The longest boot."),
        works(
            "cold_start_mean",
            Form::Duration,
            "",
            "The mean boot; boots are normal around it, and uniform from the shortest to the longest without it.",
        ),
        works(
            "cold_start_stddev",
            Form::Duration,
            "0s",
            "The standard deviation of boots.",
        ),
    ],
};
