-- How many rewrites of a table are not done yet.
SELECT count() FROM system.mutations WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done
