-- Nothing asks for events by the time of their last repeat: retention takes the beginning of the
-- record.
DROP INDEX events_last;
