//! How the tables of keys are written.

use super::{Form, Key, Section, Status};

pub(super) const fn works(
    name: &'static str,
    form: Form,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        form,
        default,
        about,
        status: Status::Works,
    }
}

pub(super) const fn section(name: &'static str, section: &'static Section) -> Key {
    works(name, Form::Section(section), "", section.about)
}

pub(super) const fn planned(name: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Planned,
    }
}

pub(super) const fn renamed(name: &'static str, to: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Renamed(to),
    }
}

pub(super) const fn refused(name: &'static str, instead: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Refused(instead),
    }
}
