-- Parts are merged when a dozen of like size have come, not five: each row is written again half as often. Readers meet
-- a few parts more; FINAL over them is what the queries use anyway.
ALTER TABLE usage_events MODIFY SETTING merge_selector_base = 12;
ALTER TABLE usage_frames MODIFY SETTING merge_selector_base = 12
