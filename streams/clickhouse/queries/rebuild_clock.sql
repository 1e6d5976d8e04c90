-- The clock of everything before this epoch, in ms.
SELECT toUnixTimestamp64Milli(max(clock)) FROM usage_frames WHERE epoch < {epoch:UInt16}
