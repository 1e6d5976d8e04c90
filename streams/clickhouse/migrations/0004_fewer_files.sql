-- A part keeps its columns in one file until it is large. One file a column makes fifty of each insert, and making files
-- cost more than the rows in them.
ALTER TABLE usage_events MODIFY SETTING min_bytes_for_wide_part = 50000000
