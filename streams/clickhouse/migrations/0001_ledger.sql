-- The ledger. Repeats collapse by key: decisions are a function of the log, so a crash can only write the same rows again.

-- Plain strings, not LowCardinality: rows are sorted by tenant, so ZSTD finds the repeats by itself, and inserts cost a
-- third less.
CREATE TABLE IF NOT EXISTS usage_events
(
    tenant          String CODEC(ZSTD(1)),
    time            DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    source          String CODEC(ZSTD(1)),
    id              String CODEC(ZSTD(1)),
    type            String CODEC(ZSTD(1)),
    subject         String CODEC(ZSTD(1)),
    event           String CODEC(ZSTD(1)),
    received        DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    clock           DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    catalog_version UInt32 CODEC(ZSTD(1)),
    quantities      Map(String, Decimal(38, 9)) CODEC(ZSTD(1)),
    uniques         Map(String, String) CODEC(ZSTD(1)),
    dimensions      Map(String, String) CODEC(ZSTD(1)),
    voided          UInt8 CODEC(ZSTD(1)),
    partition       UInt16 CODEC(ZSTD(1)),
    -- The position, inverted: greater is earlier, so of two rows with one key the earliest position stays
    -- (metering/position.py: 14 bits epoch, 36 bits offset, 14 bits line).
    version         UInt64 CODEC(ZSTD(1)),
    epoch           UInt16 ALIAS toUInt16(bitShiftRight(bitNot(version), 50)),
    offset          UInt64 ALIAS bitAnd(bitShiftRight(bitNot(version), 14), 68719476735),
    line            UInt16 ALIAS toUInt16(bitAnd(bitNot(version), 16383))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(time)
ORDER BY (tenant, toStartOfHour(time), source, id);

-- One row a record: what became of its events. A gapless prefix of offsets proves that nothing is missing.
CREATE TABLE IF NOT EXISTS usage_frames
(
    epoch           UInt16,
    partition       UInt16,
    offset          UInt64 CODEC(Delta, ZSTD(1)),
    tenant          LowCardinality(String),
    events          UInt32 CODEC(ZSTD(1)),
    counted         UInt32 CODEC(ZSTD(1)),
    duplicates      UInt32 CODEC(ZSTD(1)),
    voided          UInt32 CODEC(ZSTD(1)),
    dead            UInt32 CODEC(ZSTD(1)),
    hours           Array(UInt32) CODEC(ZSTD(1)), -- hours since 1970 that the counted rows touch
    checksum        UInt32,
    clock           DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    closing         UInt8 CODEC(ZSTD(1)),
    written         DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (epoch, partition, offset);

-- Records and events that could not be counted, with reason and origin. line -1: the whole record.
CREATE TABLE IF NOT EXISTS dead_letters
(
    epoch     UInt16,
    partition UInt16,
    offset    UInt64,
    line      Int32,
    tenant    String,
    reason    LowCardinality(String),
    detail    String,
    payload   String CODEC(ZSTD(3)),
    received  DateTime64(3, 'UTC'),
    clock     DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (epoch, partition, offset, line, reason);
