-- What people did with dead letters; the newest row of a letter says how it stands. The letters themselves stay.
CREATE TABLE IF NOT EXISTS dead_letter_marks
(
    epoch     UInt16,
    partition UInt16,
    offset    UInt64,
    line      Int32,
    reason    LowCardinality(String),
    action    LowCardinality(String), -- replayed, dropped
    by        String,
    at        DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY (epoch, partition, offset, line, reason);

-- Up to which record duplicates were compared with what they repeat. A lost or older mark only makes them be compared again.
CREATE TABLE IF NOT EXISTS conflict_marks
(
    epoch     UInt16,
    partition UInt16,
    offset    UInt64
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY (epoch, partition)
