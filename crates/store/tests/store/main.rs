//! Tests of the stores from outside: the suite that every store passes, crashes, the writer.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod support;
#[cfg(test)]
mod writer;
