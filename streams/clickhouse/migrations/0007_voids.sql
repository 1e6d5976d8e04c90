-- What voids took back: one row for each event. `target` is the version of the row taken back, so it is that row and no
-- other that readers leave out; `version` is the position of the void itself, as in usage_events.
CREATE TABLE IF NOT EXISTS usage_voids
(
    tenant    String,
    source    String,
    id        String,
    time      DateTime64(3, 'UTC'),
    target    UInt64,
    clock     DateTime64(3, 'UTC'),
    partition UInt16,
    version   UInt64,
    epoch     UInt16 ALIAS toUInt16(bitShiftRight(bitNot(version), 50)),
    offset    UInt64 ALIAS bitAnd(bitShiftRight(bitNot(version), 14), 68719476735),
    line      UInt16 ALIAS toUInt16(bitAnd(bitNot(version), 16383))
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, target, version);

-- How many rows of usage_voids stand at a record's positions.
ALTER TABLE usage_frames ADD COLUMN IF NOT EXISTS voids UInt32 CODEC(ZSTD(1)) AFTER dead
