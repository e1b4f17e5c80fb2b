-- Rows are JSON; a column beside one is there because a query or retention filters on it.
-- `live` is 1 while the record is part of the loaded state. `ended` is Unix time in microseconds.

CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    fleet TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    row TEXT NOT NULL
) STRICT;

CREATE TABLE pools (
    name TEXT PRIMARY KEY,
    row TEXT NOT NULL
) STRICT;

CREATE TABLE unclaimed (
    provider TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (provider, provider_id)
) STRICT;

CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    live INTEGER NOT NULL DEFAULT 1,
    ended INTEGER,
    row TEXT NOT NULL
) STRICT;
CREATE INDEX nodes_live ON nodes (id) WHERE live = 1;
CREATE INDEX nodes_ended ON nodes (ended) WHERE live = 0;

-- The large part of a node, which seldom changes.
CREATE TABLE descriptions (
    node TEXT PRIMARY KEY,
    row TEXT NOT NULL
) STRICT;
CREATE TRIGGER descriptions_go AFTER DELETE ON nodes BEGIN
    DELETE FROM descriptions WHERE node = old.id;
END;

CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    live INTEGER NOT NULL DEFAULT 1,
    ended INTEGER,
    row TEXT NOT NULL
) STRICT;
CREATE INDEX instances_live ON instances (id) WHERE live = 1;
CREATE INDEX instances_ended ON instances (ended) WHERE live = 0;

CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    live INTEGER NOT NULL DEFAULT 1,
    ended INTEGER,
    row TEXT NOT NULL
) STRICT;
CREATE INDEX commands_live ON commands (id) WHERE live = 1;
CREATE INDEX commands_ended ON commands (ended) WHERE live = 0;

-- `opened` is fleet time in microseconds, for it never goes back.
CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    live INTEGER NOT NULL DEFAULT 1,
    ended INTEGER,
    row TEXT NOT NULL,
    node TEXT NOT NULL,
    pool TEXT,
    open INTEGER NOT NULL,
    opened INTEGER NOT NULL
) STRICT;
CREATE INDEX incidents_live ON incidents (id) WHERE live = 1;
CREATE INDEX incidents_ended ON incidents (ended) WHERE live = 0;
CREATE INDEX incidents_opened ON incidents (opened, id);
CREATE INDEX incidents_node ON incidents (node, opened, id);
CREATE INDEX incidents_pool ON incidents (pool, opened, id);

-- `last` is Unix time in microseconds of the last repeat.
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    kind TEXT NOT NULL,
    pool TEXT,
    instance TEXT,
    node TEXT,
    incident TEXT,
    command TEXT,
    row TEXT NOT NULL
) STRICT;
CREATE INDEX events_last ON events (last);
CREATE INDEX events_kind ON events (kind);
CREATE INDEX events_pool ON events (pool) WHERE pool IS NOT NULL;
CREATE INDEX events_instance ON events (instance) WHERE instance IS NOT NULL;
CREATE INDEX events_node ON events (node) WHERE node IS NOT NULL;
CREATE INDEX events_incident ON events (incident) WHERE incident IS NOT NULL;
CREATE INDEX events_command ON events (command) WHERE command IS NOT NULL;
