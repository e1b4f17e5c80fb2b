//! Pure decisions: health rules, the XID catalogue, guards.
