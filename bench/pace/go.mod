module tallygate/pace

go 1.21
