//! How the tables of keys are written.

use super::{Form, Key, Move, Reloading, Section, Status};

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
        reloading: Reloading::Inherited,
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
        reloading: Reloading::Inherited,
    }
}

pub(super) const fn renamed(name: &'static str, to: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Renamed(to),
        reloading: Reloading::Inherited,
    }
}

pub(super) const fn refused(name: &'static str, instead: &'static str) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Refused(instead),
        reloading: Reloading::Inherited,
    }
}

/// A key that is checked and then read by nothing.
pub(super) const fn no_effect(
    name: &'static str,
    form: Form,
    default: &'static str,
    about: &'static str,
    why: &'static str,
) -> Key {
    Key {
        name,
        form,
        default,
        about,
        status: Status::NoEffect(why),
        reloading: Reloading::Inherited,
    }
}

/// A section that is no more.
pub(super) const fn moved(name: &'static str, moves: &'static [Move]) -> Key {
    Key {
        name,
        form: Form::Text,
        default: "",
        about: "",
        status: Status::Moved(moves),
        reloading: Reloading::Inherited,
    }
}

/// Where one of its keys went.
pub(super) const fn to(from: &'static str, to: &'static str) -> Move {
    Move { from, to }
}
