-- The rows that voids of this partition took back.
SELECT tenant, target FROM usage_voids WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
